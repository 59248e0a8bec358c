//! Who makes a call, and whether it may: the signature first, then the ACLs of what the call is about.
//!
//! Every node checks every call, those that another node has sent on too: they carry what the client said. The mark of such a call
//! gives no right to anything.

use duolog_broker::message_api::MessageApi;
use duolog_types::{Access, AclOperation, AclResourceType, UserStatus};

use crate::caller::Caller;
use crate::context::Context;
use crate::errors::Refusal;
use crate::proto::Code;
use crate::signature::{DATE_TIME, Signature, SignedAt};
use crate::time::now;

/// Stands in for the secret of a user that does not exist, so that it takes as long to refuse.
const NO_SECRET: &str = "no user has this secret: it has blanks";

/// Something that a call needs: one of these operations.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Need {
    pub(crate) any_of: &'static [AclOperation],
    pub(crate) resource_type: AclResourceType,
    pub(crate) name: String,
}

/// What a call needs, so that it may be made.
pub(crate) trait Guarded {
    /// # Errors
    /// A name or a handle cannot be read.
    fn needs<B: MessageApi>(&self, context: &Context<B>) -> Result<Vec<Need>, Refusal>;
}

/// Refuses a call without a client id, without a good signature, or without the rights that it needs.
pub(crate) fn admit<B: MessageApi>(
    context: &Context<B>,
    caller: &Caller,
    request: &impl Guarded,
) -> Result<(), Refusal> {
    caller.check()?;
    authenticate(context, caller)?;
    authorize(context, caller, || request.needs(context))
}

/// Refuses a call that does not prove who makes it.
pub(crate) fn authenticate<B: MessageApi>(context: &Context<B>, caller: &Caller) -> Result<(), Refusal> {
    identify(context, caller)?;
    match caller.date_time() {
        Some(date_time) if context.config.access.authentication_enabled => check_age(context, date_time),
        _ => Ok(()),
    }
}

/// The same for a stream that began a while ago: its signature may be old.
pub(crate) fn identify<B: MessageApi>(context: &Context<B>, caller: &Caller) -> Result<(), Refusal> {
    if !context.config.access.authentication_enabled {
        return Ok(());
    }
    let refuse = |sentence: String| Err(Refusal::new(Code::Unauthorized, sentence));
    let Some(authorization) = caller.authorization() else {
        return refuse("the call is not signed: give the client an access key and a secret".to_owned());
    };
    let Some(date_time) = caller.date_time() else {
        return refuse(format!("the call has no metadata {DATE_TIME}"));
    };
    let signature = match Signature::parse(authorization) {
        Ok(signature) => signature,
        Err(why) => return refuse(format!("metadata authorization: {why}")),
    };
    let user = context.broker.user(signature.access_key)?;
    let secret = user.as_ref().map_or(NO_SECRET, |user| user.secret.reveal());
    if !signature.is_of(secret, date_time) || user.is_none() {
        return refuse(format!("user {:?}: it does not exist, or its secret is another one", signature.access_key));
    }
    if user.is_some_and(|user| user.status == UserStatus::Disabled) {
        return refuse(format!("user {:?} is disabled", signature.access_key));
    }
    Ok(())
}

fn check_age<B: MessageApi>(context: &Context<B>, date_time: &str) -> Result<(), Refusal> {
    let access = &context.config.access;
    let age_ms_max = i64::try_from(access.signature_age_ms_max).unwrap_or(i64::MAX);
    if age_ms_max == 0 {
        return Ok(());
    }
    let signed_at = SignedAt::parse(date_time);
    if signed_at.is_some_and(|at| at.is_recent(now().0, age_ms_max, access.any_time_zone)) {
        return Ok(());
    }
    let sentence = format!(
        "{DATE_TIME} {date_time:?}: expected a time within {age_ms_max} ms of this node's; compare the clocks, and the time zones"
    );
    Err(Refusal::new(Code::Unauthorized, sentence))
}

/// Refuses a call of a user who lacks one of the rights that it needs. To be asked after [`authenticate`].
pub(crate) fn authorize<B: MessageApi>(
    context: &Context<B>,
    caller: &Caller,
    needs: impl FnOnce() -> Result<Vec<Need>, Refusal>,
) -> Result<(), Refusal> {
    if !context.config.access.authorization_enabled {
        return Ok(());
    }
    let user = caller
        .authorization()
        .and_then(|text| Signature::parse(text).ok())
        .map_or("", |signature| signature.access_key);
    for need in needs()? {
        let may = |operation: &AclOperation| {
            context.broker.is_allowed(&Access {
                user,
                host: &caller.host,
                operation: *operation,
                resource_type: need.resource_type,
                name: &need.name,
            })
        };
        let mut is_allowed = false;
        for operation in need.any_of {
            is_allowed = is_allowed || may(operation)?;
        }
        if !is_allowed {
            let wanted: Vec<String> =
                need.any_of.iter().map(|operation| format!("{operation:?}").to_uppercase()).collect();
            let what = format!("{:?}", need.resource_type).to_lowercase();
            let sentence =
                format!("user {user:?} at {} lacks {} on {what} {:?}", caller.host, wanted.join(" or "), need.name);
            return Err(Refusal::new(Code::Forbidden, sentence));
        }
    }
    Ok(())
}
