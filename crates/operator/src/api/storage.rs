//! The volume of each member.

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::KubeSchema;
use serde::{Deserialize, Serialize};

/// The volume of each member.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.storageClassName) == has(oldSelf.storageClassName) && (!has(self.storageClassName) || self.storageClassName == oldSelf.storageClassName)")
        .message("storage.storageClassName cannot be changed: Kubernetes cannot move a volume to another class. Create another cluster with it and move the data"),
    validation = Rule::new("quantity(self.size).compareTo(quantity(oldSelf.size)) == 0")
        .message("storage.size cannot be changed yet: the volumes of running members are not resized. Set it back, or create another cluster with the size you want and move the data"),
)]
pub struct Storage {
    /// How large each volume is. The store's own quota (`options.quotaBackendBytes`) should stay well below it.
    #[serde(default = "default_size")]
    #[x_kube(validation = Rule::new("isQuantity(self) && quantity(self).isGreaterThan(quantity('0'))").message("storage.size must be a quantity above zero, such as 8Gi"))]
    #[schemars(with = "String")]
    pub size: Quantity,
    /// The StorageClass to take volumes from; the cluster's default class without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage_class_name: Option<String>,
}

impl Default for Storage {
    fn default() -> Self {
        Self { size: default_size(), storage_class_name: None }
    }
}

fn default_size() -> Quantity {
    Quantity("8Gi".into())
}
