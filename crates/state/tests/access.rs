//! Users and ACLs in the catalog: each command against the state before it.

use duolog_state::command::{CatalogCommand, Command, Response};
use duolog_state::{AppliedEntry, EntryKind, Machine, MemoryTables, reader};
use duolog_types::{
    Acl, AclOperation, AclPermission, AclResourceType, LogIndex, PatternType, Secret, Term, User, UserStatus, UserType,
};

struct Catalog {
    machine: Machine<MemoryTables>,
    next: u64,
}

impl Catalog {
    fn new() -> Self {
        Self { machine: Machine::open(MemoryTables::new()).unwrap(), next: 0 }
    }

    fn apply(&mut self, command: CatalogCommand) -> Response {
        let body = Command::Catalog(command).encode();
        let entry = AppliedEntry { index: LogIndex(self.next), term: Term(1), kind: EntryKind::Command, body };
        self.next += 1;
        self.machine.apply(&[entry]).unwrap().responses.pop().unwrap()
    }

    fn put(&mut self, name: &str, secret: &str, expected_version: u64) -> Response {
        self.apply(CatalogCommand::PutUser { name: name.to_owned(), user: user(secret), expected_version })
    }

    fn users(&self) -> Vec<(String, String, u64)> {
        let users = reader::users(self.machine.tables()).unwrap();
        users.into_iter().map(|(name, row)| (name, row.user.secret.reveal().to_owned(), row.version)).collect()
    }

    fn acls(&self) -> Vec<Acl> {
        reader::acls(self.machine.tables()).unwrap()
    }
}

fn user(secret: &str) -> User {
    User { secret: Secret::new(secret).unwrap(), user_type: UserType::Normal, status: UserStatus::Enabled }
}

fn acl(user: &str, name: &str) -> Acl {
    Acl {
        resource_type: AclResourceType::Topic,
        pattern: PatternType::Literal,
        name: name.to_owned(),
        principal: Acl::principal_of(user),
        host: Acl::WILDCARD.to_owned(),
        operation: AclOperation::Read,
        permission: AclPermission::Allow,
    }
}

fn changed(version: u64) -> Response {
    Response::AccessChanged { version }
}

#[test]
fn a_user_changes_only_from_the_version_that_was_seen() {
    let mut catalog = Catalog::new();
    assert_eq!(catalog.put("ann", "first-secret", 0), changed(1));
    assert_eq!(catalog.put("ann", "other-secret", 0), Response::VersionConflict { found: 1, expected: 0 });
    assert_eq!(catalog.put("ann", "second-secret", 1), changed(2));
    assert_eq!(catalog.put("bob", "a-secret", 7), Response::VersionConflict { found: 0, expected: 7 });
    assert!(matches!(catalog.put("b b", "a-secret", 0), Response::Invalid(_)));
    assert_eq!(catalog.users(), [("ann".to_owned(), "second-secret".to_owned(), 2)]);
}

#[test]
fn the_first_user_is_made_only_while_there_is_none() {
    let mut catalog = Catalog::new();
    let init = |name: &str| CatalogCommand::InitUser { name: name.to_owned(), user: user("a-secret") };
    assert_eq!(catalog.apply(init("root")), changed(1));
    assert_eq!(catalog.apply(init("other")), Response::Unchanged);
    assert_eq!(catalog.apply(init("root")), Response::Unchanged);
    assert_eq!(catalog.users().len(), 1);
}

#[test]
fn acls_are_a_set_and_go_with_their_user() {
    let mut catalog = Catalog::new();
    catalog.put("ann", "a-secret", 0);
    let (first, second, other) = (acl("ann", "t"), acl("ann", "u"), acl("annabel", "t"));
    let all = vec![first.clone(), second.clone(), first.clone(), other.clone()];
    assert_eq!(catalog.apply(CatalogCommand::AddAcls(all)), changed(2));
    assert_eq!(catalog.apply(CatalogCommand::AddAcls(vec![first.clone()])), changed(2), "nothing new");
    assert_eq!(catalog.acls(), [first.clone(), second.clone(), other.clone()]);
    assert_eq!(catalog.apply(CatalogCommand::DeleteAcls(vec![first.clone(), first])), changed(3));
    assert_eq!(catalog.apply(CatalogCommand::DeleteUser { name: "ann".to_owned() }), changed(4));
    assert_eq!((catalog.acls(), catalog.users().len()), (vec![other], 0));
    assert_eq!(catalog.apply(CatalogCommand::DeleteUser { name: "ann".to_owned() }), Response::NoSuchUser);
    let bad = Acl { principal: "ann".to_owned(), ..second };
    assert!(matches!(catalog.apply(CatalogCommand::AddAcls(vec![bad])), Response::Invalid(_)));
}
