//! The Auth service. Changes go through the log, which also decides who may make them. Questions are answered here, after the
//! proof that nothing newer is known elsewhere.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use keelson_api::etcdserverpb::{
    AuthDisableRequest, AuthDisableResponse, AuthEnableRequest, AuthEnableResponse, AuthRoleAddRequest, AuthRoleAddResponse,
    AuthRoleDeleteRequest, AuthRoleDeleteResponse, AuthRoleGetRequest, AuthRoleGetResponse, AuthRoleGrantPermissionRequest,
    AuthRoleGrantPermissionResponse, AuthRoleListRequest, AuthRoleListResponse, AuthRoleRevokePermissionRequest,
    AuthRoleRevokePermissionResponse, AuthStatusRequest, AuthStatusResponse, AuthUserAddRequest, AuthUserAddResponse,
    AuthUserChangePasswordRequest, AuthUserChangePasswordResponse, AuthUserDeleteRequest, AuthUserDeleteResponse,
    AuthUserGetRequest, AuthUserGetResponse, AuthUserGrantRoleRequest, AuthUserGrantRoleResponse, AuthUserListRequest,
    AuthUserListResponse, AuthUserRevokeRoleRequest, AuthUserRevokeRoleResponse, AuthenticateRequest, AuthenticateResponse,
    ResponseHeader,
};
use keelson_api::keelson::command::Action;
use keelson_api::keelson::{SignIn, UserAdd, UserPassword};
use keelson_api::{Code, Error};
use keelson_state::Reply;

use crate::grpc::{Call, Status};
use crate::member::Member;
use crate::users::{self, Asker, Tokens};

fn header_now(member: &Member) -> Option<ResponseHeader> {
    member.header(member.state.store.revision())
}

async fn change(member: &Member, asker: Option<Asker>, action: Action) -> Result<Option<ResponseHeader>, Status> {
    match member.propose_for(asker, action).await? {
        Reply::Users { revision } => Ok(member.header(revision)),
        _ => Err(super::mismatched()),
    }
}

/// Calls that are nothing but a change.
macro_rules! changes {
    ($($name:ident $action:ident $request:ident $response:ident;)*) => {$(
        pub async fn $name(member: Arc<Member>, call: &Call, request: $request) -> Result<$response, Status> {
            let asker = member.asker(call).await?;
            Ok($response { header: change(&member, asker, Action::$action(request)).await? })
        }
    )*};
}

changes! {
    enable AuthEnable AuthEnableRequest AuthEnableResponse;
    disable AuthDisable AuthDisableRequest AuthDisableResponse;
    user_delete UserDelete AuthUserDeleteRequest AuthUserDeleteResponse;
    user_grant_role UserGrant AuthUserGrantRoleRequest AuthUserGrantRoleResponse;
    user_revoke_role UserRevoke AuthUserRevokeRoleRequest AuthUserRevokeRoleResponse;
    role_add RoleAdd AuthRoleAddRequest AuthRoleAddResponse;
    role_delete RoleDelete AuthRoleDeleteRequest AuthRoleDeleteResponse;
    role_grant_permission RoleGrant AuthRoleGrantPermissionRequest AuthRoleGrantPermissionResponse;
    role_revoke_permission RoleRevoke AuthRoleRevokePermissionRequest AuthRoleRevokePermissionResponse;
}

/// Who makes a call that is about users, as they are known to be now.
async fn proved(member: &Member, call: &Call) -> Result<Option<Asker>, Error> {
    member.read_barrier().await?;
    member.asker(call).await
}

/// The same, who must be root.
async fn proved_root(member: &Member, call: &Call) -> Result<Option<Asker>, Error> {
    let asker = proved(member, call).await?;
    if let Some(asker) = &asker {
        member.state.users().check_root(asker.caller())?;
    }
    Ok(asker)
}

pub async fn user_add(member: Arc<Member>, call: &Call, request: AuthUserAddRequest) -> Result<AuthUserAddResponse, Status> {
    // Hashing is dear: not for who may not add users. Whether somebody still may is decided in the log.
    let asker = proved_root(&member, call).await?;
    let no_password = request.options.as_ref().is_some_and(|options| options.no_password);
    let password = if no_password { Vec::new() } else { users::hash(request.password, member.config.bcrypt_cost).await? };
    let action = Action::UserAdd(UserAdd { name: request.name, password: password.into(), no_password });
    Ok(AuthUserAddResponse { header: change(&member, asker, action).await? })
}

pub async fn user_change_password(
    member: Arc<Member>,
    call: &Call,
    request: AuthUserChangePasswordRequest,
) -> Result<AuthUserChangePasswordResponse, Status> {
    let asker = proved_root(&member, call).await?;
    let password = if request.password.is_empty() {
        // As in etcd, it may come hashed. Nothing at all is a hash that no password has.
        let hash = STANDARD.decode(&request.hashed_password).map_err(|_| Error::NoPasswordUser)?;
        if let Some(cost) = users::too_dear(&hash, member.config.bcrypt_cost) {
            return Err(too_dear(cost));
        }
        hash
    } else {
        users::hash(request.password, member.config.bcrypt_cost).await?
    };
    let action = Action::UserPassword(UserPassword { name: request.name, password: password.into() });
    Ok(AuthUserChangePasswordResponse { header: change(&member, asker, action).await? })
}

fn too_dear(cost: u32) -> Status {
    let why = format!("a password hashed with bcrypt's cost {cost} would take too long to compare");
    let hint = "hash it with a lower cost, or raise --bcrypt-cost on all members";
    Status::new(Code::InvalidArgument, format!("keelson: {why}: {hint}"))
}

pub async fn authenticate(member: Arc<Member>, request: AuthenticateRequest) -> Result<AuthenticateResponse, Status> {
    member.read_barrier().await?;
    let (name, password) = (request.name, users::significant(request.password));
    loop {
        match sign_in(&member, &name, &password).await {
            // Users have changed while the password was compared, perhaps this one.
            Err(Error::AuthOldRevision) => {}
            Ok((header, token)) => return Ok(AuthenticateResponse { header, token }),
            Err(e) => {
                if matches!(e, Error::AuthFailed | Error::NoPasswordUser) {
                    tracing::warn!(user = shortened(&name), "invalid authentication was requested");
                }
                return Err(e.into());
            }
        }
    }
}

/// A name as it is logged: anybody can make one up, of any length.
fn shortened(name: &str) -> &str {
    const LONGEST: usize = 100;
    &name[..name.floor_char_boundary(LONGEST)]
}

async fn sign_in(member: &Member, name: &str, password: &[u8]) -> Result<(Option<ResponseHeader>, String), Error> {
    let (hash, auth_revision) = {
        let users = member.state.users();
        (users.password(name)?, users.revision())
    };
    if let Some(cost) = users::too_dear(&hash, member.config.bcrypt_cost) {
        let why = "the stored hash of this user's password would take too long to compare, so nobody can sign in with it; \
                   set the password anew, or raise --bcrypt-cost on all members";
        tracing::warn!(user = shortened(name), cost, "{why}");
        return Err(Error::AuthFailed);
    }
    if !users::is_right(password.to_vec(), hash).await? {
        return Err(Error::AuthFailed);
    }
    match &*member.tokens {
        // All members learn of it from the log.
        Tokens::Simple(_) => {
            let action = Action::SignIn(SignIn { name: name.to_owned(), prefix: users::new_prefix(), auth_revision });
            match member.propose(action).await? {
                Reply::SignIn { token, revision } => Ok((member.header(revision), token)),
                _ => Err(Error::AuthFailed),
            }
        }
        // It says itself at which auth revision the password was right.
        Tokens::Jwt(jwt) => Ok((header_now(member), jwt.sign(name, auth_revision, std::time::SystemTime::now())?)),
        Tokens::None => Err(Error::AuthFailed),
    }
}

pub async fn status(member: Arc<Member>, call: &Call, _: AuthStatusRequest) -> Result<AuthStatusResponse, Status> {
    proved(&member, call).await?;
    let users = member.state.users();
    Ok(AuthStatusResponse { header: header_now(&member), enabled: users.is_on(), auth_revision: users.revision() })
}

pub async fn user_get(member: Arc<Member>, call: &Call, request: AuthUserGetRequest) -> Result<AuthUserGetResponse, Status> {
    let asker = proved(&member, call).await?;
    let users = member.state.users();
    // Anybody may look at its own roles, and at what they give.
    if let Some(asker) = asker.filter(|asker| asker.user != request.name) {
        users.check_root(asker.caller())?;
    }
    Ok(AuthUserGetResponse { header: header_now(&member), roles: users.roles_of(&request.name)? })
}

pub async fn role_get(member: Arc<Member>, call: &Call, request: AuthRoleGetRequest) -> Result<AuthRoleGetResponse, Status> {
    let asker = proved(&member, call).await?;
    let users = member.state.users();
    if let Some(asker) = asker.filter(|asker| !users.has_role(&asker.user, &request.role)) {
        users.check_root(asker.caller())?;
    }
    Ok(AuthRoleGetResponse { header: header_now(&member), perm: users.permissions(&request.role)? })
}

pub async fn user_list(member: Arc<Member>, call: &Call, _: AuthUserListRequest) -> Result<AuthUserListResponse, Status> {
    proved_root(&member, call).await?;
    Ok(AuthUserListResponse { header: header_now(&member), users: member.state.users().names() })
}

pub async fn role_list(member: Arc<Member>, call: &Call, _: AuthRoleListRequest) -> Result<AuthRoleListResponse, Status> {
    proved_root(&member, call).await?;
    Ok(AuthRoleListResponse { header: header_now(&member), roles: member.state.users().role_names() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_logged_up_to_some_length() {
        assert_eq!(shortened("ann"), "ann");
        assert_eq!(shortened(&"é".repeat(1_000_000)), "é".repeat(50));
        assert_eq!(shortened(&format!("a{}", "é".repeat(100))), format!("a{}", "é".repeat(49)));
    }
}
