//! What calls and messages look like, as the `.proto` files have it.

use std::sync::LazyLock;

use prost_reflect::{DescriptorPool, MessageDescriptor, MethodDescriptor};

use crate::services::Method;

// They were made from the files that this process was built from.
static POOL: LazyLock<DescriptorPool> =
    LazyLock::new(|| DescriptorPool::decode(keelson_api::DESCRIPTORS).expect("the built-in descriptors are whole"));

/// A call: what it asks with and what it is answered with.
pub fn of(method: Method) -> MethodDescriptor {
    let service = POOL.get_service_by_name(method.service()).expect("every method has a service in the descriptors");
    let mut methods = service.methods();
    methods.find(|m| m.name() == method.name()).expect("every method is in the descriptors")
}

/// A message by its full name, which must be one of them.
pub fn message(name: &str) -> MessageDescriptor {
    POOL.get_message_by_name(name).expect("every message is in the descriptors")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_method_is_described_as_what_it_is_and_no_request_holds_what_is_not_read() {
        for method in Method::ALL {
            let described = of(*method);
            let kind = match (described.is_client_streaming(), described.is_server_streaming()) {
                (false, false) => "unary",
                (false, true) => "server_stream",
                (true, _) => "bidi_stream",
            };
            assert_eq!(method.kind(), kind, "{method:?}");
            assert!(described.input().fields().all(|f| !f.is_map()), "{method:?}");
        }
        assert!(POOL.get_message_by_name("etcdserverpb.RequestOp").unwrap().fields().all(|f| !f.is_map()));
    }
}
