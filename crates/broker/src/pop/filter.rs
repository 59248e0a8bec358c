//! Which messages a consumer wants.

use duolog_record::{Record, TagFilter};

use crate::api::ItemResult;
use crate::error::BrokerError;
use crate::message_api::{Filter, TAG_HEADER};
use crate::sql::Condition;

/// A filter that was checked.
pub(super) enum Compiled {
    All,
    /// The tags, and the filter of each.
    Tags(Vec<(String, TagFilter)>),
    Sql(Condition),
}

impl Compiled {
    pub(super) fn new(filter: &Filter) -> ItemResult<Self> {
        match filter {
            Filter::All => Ok(Self::All),
            Filter::Tags(tags) if tags.iter().any(|tag| tag == "*") => Ok(Self::All),
            Filter::Tags(tags) => {
                Ok(Self::Tags(tags.iter().map(|tag| (tag.clone(), TagFilter::of_tag(tag.as_bytes()))).collect()))
            }
            Filter::Sql(text) => {
                let invalid = |error| BrokerError::InvalidRequest(format!("filter expression {text:?}: {error}"));
                Condition::parse(text).map(Self::Sql).map_err(invalid)
            }
        }
    }

    /// Whether it wants something of a batch whose records have such tags.
    pub(super) fn may_want(&self, tags: TagFilter) -> bool {
        match self {
            Self::All | Self::Sql(_) => true,
            Self::Tags(wanted) => wanted.iter().any(|(_, tag)| tags.may_hold(*tag)),
        }
    }

    pub(super) fn wants(&self, record: &Record) -> bool {
        match self {
            Self::All => true,
            Self::Tags(tags) => tag(record).is_some_and(|tag| tags.iter().any(|(wanted, _)| wanted.as_bytes() == tag)),
            Self::Sql(condition) => condition.is_true(&|name| property(record, name)),
        }
    }
}

fn tag(record: &Record) -> Option<&[u8]> {
    header(record, TAG_HEADER)
}

/// What is not text is no property.
fn property<'a>(record: &'a Record, name: &str) -> Option<&'a str> {
    std::str::from_utf8(header(record, name)?).ok()
}

fn header<'a>(record: &'a Record, name: &str) -> Option<&'a [u8]> {
    record.headers.iter().find(|header| header.key == name.as_bytes())?.value.as_deref()
}
