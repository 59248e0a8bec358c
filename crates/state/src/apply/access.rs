//! Commands to the catalog about users and ACLs.
//!
//! What is refused here was refused by the proposer before; only the limits may be met by two proposers at once.

use duolog_types::{Acl, User, check_user_name, limits};

use super::catalog::bump_version;
use super::context::Context;
use crate::command::Response;
use crate::rows::{AclRow, CatalogUser};
use crate::tables::TableId;
use crate::{StateError, keys, reader};

pub(super) fn init_user(context: &mut Context<'_>, name: &str, user: User) -> Result<Response, StateError> {
    if !reader::users(&context.tables)?.is_empty() {
        return Ok(Response::Unchanged);
    }
    put_user(context, name, user, 0)
}

pub(super) fn put_user(
    context: &mut Context<'_>,
    name: &str,
    user: User,
    expected: u64,
) -> Result<Response, StateError> {
    if let Err(error) = check_user_name(name).and_then(|()| user.secret.check()) {
        return Ok(Response::Invalid(error.to_string()));
    }
    let found = reader::user(&context.tables, name)?.map_or(0, |row| row.version);
    if found != expected {
        return Ok(Response::VersionConflict { found, expected });
    }
    if found == 0 && reader::users(&context.tables)?.len() >= limits::USERS_MAX {
        return Ok(Response::Invalid(format!("there are {} users already, which is the most", limits::USERS_MAX)));
    }
    let version = bump_version(context)?;
    context.put(TableId::Catalog, keys::user(name), &CatalogUser { user, version });
    Ok(Response::AccessChanged { version })
}

/// The ACLs go with the user: another one who gets the name later must not have its rights.
pub(super) fn delete_user(context: &mut Context<'_>, name: &str) -> Result<Response, StateError> {
    if reader::user(&context.tables, name)?.is_none() {
        return Ok(Response::NoSuchUser);
    }
    context.tables.delete(TableId::Catalog, keys::user(name));
    for acl in reader::user_acls(&context.tables, &Acl::principal_of(name))? {
        context.tables.delete(TableId::Catalog, keys::acl(&acl));
    }
    let version = bump_version(context)?;
    Ok(Response::AccessChanged { version })
}

pub(super) fn add_acls(context: &mut Context<'_>, acls: Vec<Acl>) -> Result<Response, StateError> {
    if let Some(error) = acls.iter().find_map(|acl| acl.check().err()) {
        return Ok(Response::Invalid(error.to_string()));
    }
    let mut count = reader::acls(&context.tables)?.len();
    let mut new = Vec::new();
    for acl in acls {
        if !reader::has_acl(&context.tables, &acl)? && !new.contains(&acl) {
            new.push(acl);
        }
    }
    count += new.len();
    if count > limits::ACLS_MAX {
        return Ok(Response::Invalid(format!("there would be {count} ACLs, expected at most {}", limits::ACLS_MAX)));
    }
    if new.is_empty() {
        return Ok(Response::AccessChanged { version: reader::catalog_version(&context.tables)? });
    }
    for acl in new {
        context.put(TableId::Catalog, keys::acl(&acl), &AclRow(acl));
    }
    Ok(Response::AccessChanged { version: bump_version(context)? })
}

pub(super) fn delete_acls(context: &mut Context<'_>, acls: &[Acl]) -> Result<Response, StateError> {
    let mut is_changed = false;
    for acl in acls {
        if acl.check().is_ok() && reader::has_acl(&context.tables, acl)? {
            context.tables.delete(TableId::Catalog, keys::acl(acl));
            is_changed = true;
        }
    }
    let version = if is_changed { bump_version(context)? } else { reader::catalog_version(&context.tables)? };
    Ok(Response::AccessChanged { version })
}
