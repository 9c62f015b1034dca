//! Users in the log: which of its commands need which rights when they are applied, and those that change users.

use super::*;

impl<B: Backend> Machine<B> {
    /// Whether the caller may do this now, whatever was found when it asked.
    pub(super) fn check(&self, action: &Action, caller: Caller<'_>) -> Result<(), Error> {
        let (leases, users) = (self.shared.leases.read(), self.shared.users.read());
        match action {
            Action::Put(r) => users.check_put(&leases, caller, r),
            Action::DeleteRange(r) => users.check_delete(caller, r),
            Action::Txn(r) => users.check_txn(&leases, caller, r),
            Action::LeaseRevoke(r) if r.expired_in_term == 0 => users.check_lease(&leases, caller, Right::Write, r.id),
            Action::AuthEnable(_)
            | Action::AuthDisable(_)
            | Action::UserAdd(_)
            | Action::UserDelete(_)
            | Action::UserPassword(_)
            | Action::UserGrant(_)
            | Action::UserRevoke(_)
            | Action::RoleAdd(_)
            | Action::RoleDelete(_)
            | Action::RoleGrant(_)
            | Action::RoleRevoke(_) => users.check_root(caller),
            // Who signs in is nobody yet.
            Action::SignIn(_) => Ok(()),
            // As in etcd, decided where a client's request comes in. Members themselves ask for these, too.
            Action::Compact(_)
            | Action::LeaseGrant(_)
            | Action::LeaseRevoke(_)
            | Action::LeaseCheckpoint(_)
            | Action::Alarm(_)
            | Action::FirstMembers(_)
            | Action::MemberAdd(_)
            | Action::MemberRemove(_)
            | Action::MemberUpdate(_)
            | Action::MemberPromote(_)
            | Action::OnlyMember(_)
            | Action::MemberAttributes(_)
            | Action::ClusterVersion(_) => Ok(()),
        }
    }

    /// Changes users and roles, and tells what becomes of their tokens.
    pub(super) fn change_users(&mut self, action: &Action, index: u64) -> Result<Reply, Error> {
        let mut users = self.shared.users.write();
        let (batch, tokens) = (self.writer.batch(), &mut self.applied.tokens);
        match action {
            Action::AuthEnable(_) => users.enable(batch)?,
            Action::AuthDisable(_) => {
                users.disable(batch);
                tokens.push(TokenChange::AllTaken);
            }
            Action::SignIn(r) => {
                users.sign_in(r)?;
                let token = format!("{}.{index}", r.prefix);
                tokens.push(TokenChange::Given { token: token.clone(), user: r.name.clone() });
                return Ok(Reply::SignIn { token, revision: 0 });
            }
            Action::UserAdd(r) => users.add_user(r, batch)?,
            Action::UserDelete(r) => {
                users.delete_user(&r.name, batch)?;
                tokens.push(TokenChange::Taken(r.name.clone()));
            }
            Action::UserPassword(r) => {
                users.set_password(r, batch)?;
                tokens.push(TokenChange::Taken(r.name.clone()));
            }
            Action::UserGrant(r) => users.grant_role(r, batch)?,
            Action::UserRevoke(r) => users.revoke_role(r, batch)?,
            Action::RoleAdd(r) => users.add_role(&r.name, batch)?,
            Action::RoleDelete(r) => users.delete_role(&r.role, batch)?,
            Action::RoleGrant(r) => users.grant_permission(r, batch)?,
            Action::RoleRevoke(r) => users.revoke_permission(r, batch)?,
            _ => {}
        }
        self.shared.auth_is_on.store(users.is_on(), Ordering::Relaxed);
        Ok(Reply::Users { revision: 0 })
    }
}

#[cfg(test)]
mod tests {
    use keelson_api::authpb::{Permission, permission::Type};
    use keelson_api::etcdserverpb::{
        AuthDisableRequest, AuthEnableRequest, AuthRoleAddRequest, AuthRoleDeleteRequest, AuthRoleGrantPermissionRequest,
        AuthUserGrantRoleRequest, PutRequest,
    };
    use keelson_api::keelson::{LeaseGrant, LeaseRevoke, SignIn, UserAdd, UserPassword};
    use keelson_mvcc::MemoryBackend;

    use super::*;

    /// A store that asks for users: root, and one that may write keys from `a` up to `c`.
    struct Stage {
        backend: MemoryBackend,
        machine: Machine<MemoryBackend>,
        index: u64,
    }

    impl Stage {
        fn new() -> Self {
            let backend = MemoryBackend::default();
            let machine = Machine::open(backend.clone()).unwrap().0;
            let mut stage = Self { backend, machine, index: 0 };
            for (user, role) in [("root", "root"), ("ann", "writer")] {
                stage.does(Action::UserAdd(UserAdd { name: user.into(), ..UserAdd::default() }));
                stage.does(Action::RoleAdd(AuthRoleAddRequest { name: role.into() }));
                stage.does(Action::UserGrant(AuthUserGrantRoleRequest { user: user.into(), role: role.into() }));
            }
            let perm = Some(Permission { perm_type: Type::Write.into(), key: "a".into(), range_end: "c".into() });
            stage.does(Action::RoleGrant(AuthRoleGrantPermissionRequest { name: "writer".into(), perm }));
            stage.does(Action::AuthEnable(AuthEnableRequest {}));
            stage
        }

        fn play(&mut self, user: &str, revision: u64, action: Action) -> Result<Reply, Error> {
            self.index += 1;
            let command = Command { user: user.into(), auth_revision: revision, action: Some(action), ..Command::default() };
            self.machine.apply(&command, 1, self.index).unwrap()
        }

        fn does(&mut self, action: Action) {
            self.play("root", self.revision(), action).unwrap();
        }

        fn as_ann(&mut self, action: Action) -> Result<Reply, Error> {
            self.play("ann", self.revision(), action)
        }

        fn revision(&self) -> u64 {
            self.machine.shared.users().revision()
        }

        fn commit(&mut self) -> Applied {
            self.machine.commit(&Position { index: self.index, ..Position::default() }).unwrap()
        }
    }

    fn put(key: &'static str, lease: i64) -> Action {
        Action::Put(PutRequest { key: key.into(), lease, ..PutRequest::default() })
    }

    fn refusal(result: Result<Reply, Error>) -> Option<Error> {
        result.err()
    }

    #[test]
    fn a_right_that_was_taken_on_the_way_through_the_log_counts() {
        let mut stage = Stage::new();
        let admitted = stage.revision();
        stage.play("ann", admitted, put("a", 0)).unwrap();
        stage.does(Action::RoleDelete(AuthRoleDeleteRequest { role: "writer".into() }));
        assert_eq!(refusal(stage.play("ann", admitted, put("a", 0))), Some(Error::AuthOldRevision));
        assert_eq!(refusal(stage.as_ann(put("a", 0))), Some(Error::PermissionDenied));
        assert_eq!(refusal(stage.play("root", admitted, put("a", 0))), Some(Error::AuthOldRevision));
    }

    #[test]
    fn a_command_of_nobody_that_was_proposed_before_users_were_asked_for_is_refused_after() {
        let mut stage = Stage::new();
        assert_eq!(refusal(stage.play("", 0, put("a", 0))), Some(Error::UserEmpty));
        assert_eq!(refusal(stage.play("", 0, Action::AuthDisable(AuthDisableRequest {}))), Some(Error::UserEmpty));
        stage.does(Action::AuthDisable(AuthDisableRequest {}));
        stage.play("", 0, put("a", 0)).unwrap();
    }

    #[test]
    fn a_lease_is_ended_by_who_may_write_all_its_keys_and_by_its_clock() {
        let mut stage = Stage::new();
        stage.as_ann(Action::LeaseGrant(LeaseGrant { id: 1, ttl: 5 })).unwrap();
        stage.as_ann(put("a", 1)).unwrap();
        stage.does(put("z", 1));
        assert_eq!(refusal(stage.as_ann(put("b", 1))), Some(Error::PermissionDenied));
        let revoke = |expired_in_term| Action::LeaseRevoke(LeaseRevoke { id: 1, expired_in_term });
        assert_eq!(refusal(stage.as_ann(revoke(0))), Some(Error::PermissionDenied));
        // A clock of another term has been overtaken: the lease and its keys stay.
        assert!(matches!(stage.play("", 0, revoke(2)), Ok(Reply::Done)));
        stage.does(put("y", 1));
        assert!(matches!(stage.play("", 0, revoke(1)), Ok(Reply::LeaseRevoke { .. })));
    }

    #[test]
    fn a_lease_that_was_revoked_and_granted_again_in_one_batch_is_there_and_one_that_was_granted_and_revoked_is_not() {
        let mut stage = Stage::new();
        let grant = |id| Action::LeaseGrant(LeaseGrant { id, ttl: 5 });
        let revoke = |id| Action::LeaseRevoke(LeaseRevoke { id, expired_in_term: 0 });
        stage.does(grant(1));
        assert_eq!(stage.commit().granted, [(1, 5)]);
        for action in [revoke(1), grant(1), grant(2), revoke(2)] {
            stage.does(action);
        }
        let applied = stage.commit();
        assert_eq!((applied.revoked, applied.granted), (vec![1, 2], vec![(1, 5)]));
    }

    #[test]
    fn users_outlive_a_restart_and_tokens_are_told_in_order() {
        let mut stage = Stage::new();
        let sign_in = |auth_revision| Action::SignIn(SignIn { name: "ann".into(), prefix: "p".into(), auth_revision });
        let stale = stage.revision() - 1;
        assert_eq!(refusal(stage.play("", 0, sign_in(stale))), Some(Error::AuthOldRevision));
        let Ok(Reply::SignIn { token, .. }) = stage.play("", 0, sign_in(stage.revision())) else { panic!("not signed in") };
        assert_eq!(token, format!("p.{}", stage.index));
        let password = UserPassword { name: "ann".into(), password: "hash".into() };
        stage.does(Action::UserPassword(password));
        let given = TokenChange::Given { token, user: "ann".into() };
        assert_eq!(stage.commit().tokens, [given, TokenChange::Taken("ann".into())]);
        let again = Machine::open(stage.backend.clone()).unwrap().0;
        assert!(again.shared.auth_is_on());
        assert_eq!(*again.shared.users(), *stage.machine.shared.users());
    }
}
