//! An access control list entry, as Kafka has it: one rule about one principal, and the filter that finds such rules.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::user::AccessError;
use crate::limits;

macro_rules! numbered {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $number:literal, $word:literal;)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(rename_all = "kebab-case")]
        pub enum $name { $($(#[$variant_doc])* $variant = $number),* }

        impl $name {
            /// Every value.
            pub const EVERY: &'static [Self] = &[$(Self::$variant),*];

            /// Its number in Kafka's protocol.
            #[must_use]
            pub fn number(self) -> i8 {
                self as i8
            }

            /// The inverse of `number`; `None` when there is no such value.
            #[must_use]
            pub fn from_number(number: i8) -> Option<Self> {
                Self::EVERY.iter().copied().find(|value| value.number() == number)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self { $(Self::$variant => $word),* })
            }
        }

        impl FromStr for $name {
            type Err = String;

            fn from_str(text: &str) -> Result<Self, String> {
                let found = Self::EVERY.iter().copied().find(|value| value.to_string().eq_ignore_ascii_case(text));
                found.ok_or_else(|| format!("expected {}", [$($word),*].join(", ")))
            }
        }
    };
}

numbered! {
    /// What a rule is about. Order of variants and numbers are formats.
    AclResourceType {
        /// A topic.
        Topic = 2, "topic";
        /// A consumer group.
        Group = 3, "group";
        /// The cluster; its name is [`Acl::CLUSTER_NAME`].
        Cluster = 4, "cluster";
    }
}

numbered! {
    /// How the name of a rule is compared. Order of variants and numbers are formats.
    PatternType {
        /// Whole; `*` stands for every name.
        Literal = 3, "literal";
        /// As the beginning of names.
        Prefixed = 4, "prefixed";
    }
}

numbered! {
    /// What a rule allows or denies, by Kafka's names. Order of variants and numbers are formats.
    AclOperation {
        /// Every other operation.
        All = 2, "all";
        /// To consume; RocketMQ's Sub.
        Read = 3, "read";
        /// To produce; RocketMQ's Pub.
        Write = 4, "write";
        /// To create.
        Create = 5, "create";
        /// To delete.
        Delete = 6, "delete";
        /// To alter.
        Alter = 7, "alter";
        /// To look at it. Whoever may read, write, delete or alter may do this, too.
        Describe = 8, "describe";
        /// Kafka's calls between brokers; kept for its tools.
        ClusterAction = 9, "cluster-action";
        /// To look at configs. Whoever may alter them may do this, too.
        DescribeConfigs = 10, "describe-configs";
        /// To alter configs.
        AlterConfigs = 11, "alter-configs";
        /// Kept for Kafka's tools.
        IdempotentWrite = 12, "idempotent-write";
    }
}

numbered! {
    /// Whether a rule allows or denies. Order of variants and numbers are formats.
    AclPermission {
        /// It denies, whatever others allow.
        Deny = 2, "deny";
        /// It allows.
        Allow = 3, "allow";
    }
}

/// One rule. Two equal ones are one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Acl {
    /// What it is about.
    pub resource_type: AclResourceType,
    /// How `name` is compared.
    pub pattern: PatternType,
    /// Name of the resource.
    pub name: String,
    /// `User:` and a name; `User:*` stands for every user.
    pub principal: String,
    /// The client's IP address; `*` stands for every one.
    pub host: String,
    /// What it allows or denies.
    pub operation: AclOperation,
    /// Which of both.
    pub permission: AclPermission,
}

impl Acl {
    /// Stands for every name, user or host.
    pub const WILDCARD: &str = "*";
    /// Begins every principal.
    pub const USER_PREFIX: &str = "User:";
    /// The name of the one cluster.
    pub const CLUSTER_NAME: &str = "kafka-cluster";

    /// The principal of a user.
    #[must_use]
    pub fn principal_of(user: &str) -> String {
        format!("{}{user}", Self::USER_PREFIX)
    }

    /// Refuses rules that could never match.
    ///
    /// # Errors
    /// `Acl`, with the field.
    pub fn check(&self) -> Result<(), AccessError> {
        let refuse = |what, found: &str, expected| Err(AccessError::Acl { what, found: found.to_owned(), expected });
        let is_text = |text: &str| (1..=limits::ACL_TEXT_BYTES_MAX).contains(&text.len()) && !text.contains('\0');
        let user = self.principal.strip_prefix(Self::USER_PREFIX);
        if !user.is_some_and(is_text) {
            return refuse("principal", &self.principal, "User:NAME or User:*");
        }
        if !is_text(&self.host) {
            return refuse("host", &self.host, "an IP address or *");
        }
        if !is_text(&self.name) {
            return refuse("resource name", &self.name, "a name or *");
        }
        let is_cluster = self.resource_type == AclResourceType::Cluster;
        if is_cluster && (self.name != Self::CLUSTER_NAME || self.pattern != PatternType::Literal) {
            return refuse("resource name of the cluster", &self.name, "kafka-cluster, literal");
        }
        Ok(())
    }

    /// Whether the rule is about a resource of this name.
    #[must_use]
    pub fn is_about(&self, resource_type: AclResourceType, name: &str) -> bool {
        self.resource_type == resource_type
            && match self.pattern {
                PatternType::Literal => self.name == name || self.name == Self::WILDCARD,
                PatternType::Prefixed => name.starts_with(&self.name),
            }
    }
}

/// Which patterns a filter finds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AclPatternFilter {
    /// Every pattern whose name is the filter's.
    #[default]
    Any,
    /// Every pattern that is about the resource of the filter's name.
    Match,
    /// Patterns of this type whose name is the filter's.
    Only(PatternType),
}

/// Finds rules; `None` finds every value.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AclFilter {
    /// What the rule is about.
    pub resource_type: Option<AclResourceType>,
    /// Its name.
    pub name: Option<String>,
    /// How it is compared.
    pub pattern: AclPatternFilter,
    /// The principal.
    pub principal: Option<String>,
    /// The host.
    pub host: Option<String>,
    /// The operation.
    pub operation: Option<AclOperation>,
    /// Allow or deny.
    pub permission: Option<AclPermission>,
}

impl AclFilter {
    /// Whether it finds a rule.
    #[must_use]
    pub fn finds(&self, acl: &Acl) -> bool {
        fn fits<T: PartialEq>(wanted: Option<&T>, found: &T) -> bool {
            wanted.is_none_or(|wanted| wanted == found)
        }
        let has_name = match self.pattern {
            AclPatternFilter::Any => fits(self.name.as_ref(), &acl.name),
            AclPatternFilter::Match => self.name.as_ref().is_none_or(|name| acl.is_about(acl.resource_type, name)),
            AclPatternFilter::Only(pattern) => pattern == acl.pattern && fits(self.name.as_ref(), &acl.name),
        };
        has_name
            && fits(self.resource_type.as_ref(), &acl.resource_type)
            && fits(self.principal.as_ref(), &acl.principal)
            && fits(self.host.as_ref(), &acl.host)
            && fits(self.operation.as_ref(), &acl.operation)
            && fits(self.permission.as_ref(), &acl.permission)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn acl(pattern: PatternType, name: &str) -> Acl {
        Acl {
            resource_type: AclResourceType::Topic,
            pattern,
            name: name.to_owned(),
            principal: "User:a".to_owned(),
            host: "*".to_owned(),
            operation: AclOperation::Read,
            permission: AclPermission::Allow,
        }
    }

    #[test]
    fn a_filter_compares_names_as_it_says() {
        use AclPatternFilter::{Any, Match, Only};
        let (literal, prefixed, every) =
            (acl(PatternType::Literal, "pay"), acl(PatternType::Prefixed, "pay"), acl(PatternType::Literal, "*"));
        for (pattern, name, expected) in [
            (Any, "pay", [true, true, false]),
            (Any, "payments", [false, false, false]),
            (Match, "pay", [true, true, true]),
            (Match, "payments", [false, true, true]),
            (Only(PatternType::Literal), "pay", [true, false, false]),
            (Only(PatternType::Prefixed), "pay", [false, true, false]),
        ] {
            let filter = AclFilter { pattern, name: Some(name.to_owned()), ..AclFilter::default() };
            let found = [&literal, &prefixed, &every].map(|acl| filter.finds(acl));
            assert_eq!(found, expected, "{pattern:?} {name}");
        }
        let other = AclFilter { principal: Some("User:b".to_owned()), ..AclFilter::default() };
        assert!(!other.finds(&literal) && AclFilter::default().finds(&literal));
    }

    #[test]
    fn words_and_numbers_go_both_ways() {
        for operation in AclOperation::EVERY {
            assert_eq!(AclOperation::from_number(operation.number()), Some(*operation));
            assert_eq!(operation.to_string().parse(), Ok(*operation));
        }
        assert_eq!("READ".parse(), Ok(AclOperation::Read));
        assert!("reed".parse::<AclOperation>().unwrap_err().contains("read, write"));
        assert_eq!((AclResourceType::from_number(5), PatternType::from_number(2)), (None, None));
    }

    #[test]
    fn rules_that_never_match_are_refused() {
        let good = acl(PatternType::Literal, "t");
        good.check().unwrap();
        for bad in [
            Acl { principal: "a".to_owned(), ..good.clone() },
            Acl { principal: "User:".to_owned(), ..good.clone() },
            Acl { host: String::new(), ..good.clone() },
            Acl { name: String::new(), ..good.clone() },
            Acl { resource_type: AclResourceType::Cluster, ..good.clone() },
        ] {
            bad.check().unwrap_err();
        }
    }
}
