//! Reading the config: the file, the environment over it, then all checks.
//!
//! Errors name the line of the file or the variable of the environment, what was found, what was expected, and for an unknown
//! key the known one that looks most like it.

use std::path::Path;

use anyhow::Context;
use duolog_types::nearest;
use serde::Deserialize;
use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};

use super::NodeConfig;
use super::keys::{KEYS, Key, Kind, NODES, VARIABLE_PREFIX};

/// A typing error has no more edits than this.
const EDITS_MAX: usize = 3;

/// Shown instead of a secret.
const HIDDEN: &str = "(hidden)";

/// A config with where it comes from.
#[derive(Debug)]
pub struct Loaded {
    pub config: NodeConfig,
    /// What the environment has set, in the order of the keys.
    pub environment: Vec<FromEnvironment>,
    /// Variables that look like one of ours and are none.
    pub warnings: Vec<String>,
}

/// A value that the environment has set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FromEnvironment {
    pub key: String,
    pub value: String,
    pub variable: String,
}

impl Loaded {
    /// Reads and checks a config file, with the environment over it.
    ///
    /// # Errors
    /// The file cannot be read, or something in it or in the environment is wrong.
    pub fn read(path: &Path) -> anyhow::Result<Self> {
        let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        let is_ours = |(name, _): &(String, String)| name.starts_with(VARIABLE_PREFIX);
        // A variable that is not UTF-8 is none of ours.
        let variables = std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value)));
        let variables = variables.map(|(name, value)| (name, value.to_string_lossy().into_owned()));
        let variables: Vec<(String, String)> = variables.filter(is_ours).collect();
        parse(&text, &variables).map_err(|error| anyhow::anyhow!("{}: {}", path.display(), error.trim_end()))
    }
}

/// Reads a file's text with the given variables over it.
pub(super) fn parse(text: &str, variables: &[(String, String)]) -> Result<Loaded, String> {
    let mut root = DeTable::parse(text).map_err(|error| error.to_string())?;
    check_keys(text, root.get_ref(), "")?;
    let mut environment = Vec::new();
    for key in KEYS {
        for place in 0.. {
            let name = key.variable(place);
            match variables.iter().find(|(known, _)| *known == name) {
                Some((variable, value)) => {
                    let position = text.len() + 1 + environment.len();
                    set(root.get_mut(), key, place, value, position)
                        .map_err(|what| format!("{variable}={value:?}: {what}"))?;
                    environment.push(FromEnvironment {
                        key: shown(key, place),
                        value: if key.kind == Kind::Secret { HIDDEN.to_owned() } else { value.clone() },
                        variable: variable.clone(),
                    });
                }
                // Places are given without gaps; those of the file may be skipped.
                None if place >= node_count(root.get_ref()) => break,
                None => {}
            }
            if !key.is_of_nodes() {
                break;
            }
        }
    }
    let config =
        NodeConfig::deserialize(toml::Deserializer::from(root)).map_err(|error| of_value(text, &environment, error))?;
    config.check().map_err(|what| with_variables(what, &environment))?;
    Ok(Loaded { config, warnings: warnings(variables, &environment), environment })
}

fn shown(key: &Key, place: usize) -> String {
    match key.name.split_once('.') {
        Some((NODES, name)) => format!("{NODES}[{place}].{name}"),
        _ => key.name.to_owned(),
    }
}

/// Refuses keys that are none, with their line.
fn check_keys(text: &str, table: &DeTable<'_>, prefix: &str) -> Result<(), String> {
    for (name, value) in table {
        let path = format!("{prefix}{}", name.get_ref());
        if KEYS.iter().any(|key| key.name == path) {
            continue;
        }
        let inner = format!("{path}.");
        if !KEYS.iter().any(|key| key.name.starts_with(&inner)) {
            return Err(unknown_key(text, &path, name.span().start));
        }
        match value.get_ref() {
            DeValue::Table(table) => check_keys(text, table, &inner)?,
            DeValue::Array(tables) => {
                for table in tables.iter() {
                    if let DeValue::Table(table) = table.get_ref() {
                        check_keys(text, table, &inner)?;
                    }
                }
            }
            // The wrong type is found later, with its line.
            _ => {}
        }
    }
    Ok(())
}

fn unknown_key(text: &str, path: &str, position: usize) -> String {
    let line = line_of(text, position);
    let suggestion = similar_key(path).map(|key| format!("; did you mean `{key}`?")).unwrap_or_default();
    format!(
        "line {line}: unknown field `{path}`: expected a key of docs/config.md (`duolog config doc` prints it){suggestion}"
    )
}

/// The same name in another table, else the most similar key.
fn similar_key(path: &str) -> Option<&'static str> {
    let last = |path: &str| path.rsplit('.').next().unwrap_or_default().to_owned();
    let elsewhere = KEYS.iter().map(|key| key.name).find(|name| last(name) == last(path) && path.len() > 2);
    let tables = KEYS.iter().filter_map(|key| key.name.split_once('.').map(|(table, _)| table));
    elsewhere.or_else(|| nearest(path, KEYS.iter().map(|key| key.name).chain(tables), EDITS_MAX))
}

fn line_of(text: &str, position: usize) -> usize {
    text.bytes().take(position).filter(|byte| *byte == b'\n').count() + 1
}

fn node_count(root: &DeTable<'_>) -> usize {
    match root.get(NODES).map(Spanned::get_ref) {
        Some(DeValue::Array(nodes)) => nodes.len(),
        _ => 0,
    }
}

/// Sets a value. Its span begins at `position`, behind the text, so that an error can be traced to its variable.
fn set<'a>(root: &mut DeTable<'a>, key: &Key, place: usize, value: &'a str, position: usize) -> Result<(), String> {
    let span = position..position;
    let value = Spanned::new(span.clone(), value_of(key, value)?);
    let Some((table, name)) = key.name.split_once('.') else {
        root.insert(word(key.name), value);
        return Ok(());
    };
    let entry = root.entry(word(table)).or_insert_with(|| {
        let empty =
            if key.is_of_nodes() { DeValue::Array(toml::de::DeArray::new()) } else { DeValue::Table(DeTable::new()) };
        Spanned::new(span.clone(), empty)
    });
    let table = match entry.get_mut() {
        DeValue::Table(table) => table,
        DeValue::Array(nodes) => {
            while nodes.len() <= place {
                nodes.push(Spanned::new(span.clone(), DeValue::Table(DeTable::new())));
            }
            match nodes.get_mut(place).map(Spanned::get_mut) {
                Some(DeValue::Table(table)) => table,
                _ => return Err(format!("expected [[{table}]] in the file, found something else")),
            }
        }
        _ => return Err(format!("expected a table [{table}] in the file, found something else")),
    };
    table.insert(word(name), value);
    Ok(())
}

fn word(name: &'static str) -> Spanned<DeString<'static>> {
    Spanned::new(0..0, name.into())
}

fn value_of<'a>(key: &Key, value: &'a str) -> Result<DeValue<'a>, String> {
    match key.kind {
        Kind::Text | Kind::Secret => Ok(DeValue::String(value.into())),
        Kind::Boolean => match value {
            "true" => Ok(DeValue::Boolean(true)),
            "false" => Ok(DeValue::Boolean(false)),
            _ => Err("expected true or false".to_owned()),
        },
        Kind::Integer => {
            let expected = || "expected a whole number of at least 0".to_owned();
            value.parse::<u64>().map_err(|_| expected())?;
            DeValue::parse(value).map(Spanned::into_inner).map_err(|_| expected())
        }
    }
}

/// An error of one value: of the file with its line, of the environment with its variable.
fn of_value(text: &str, environment: &[FromEnvironment], mut error: toml::de::Error) -> String {
    let behind_text = error.span().and_then(|span| span.start.checked_sub(text.len() + 1));
    match behind_text.and_then(|index| environment.get(index)) {
        Some(FromEnvironment { variable, value, .. }) => format!("{variable}={value:?}: {}", error.message()),
        None => {
            error.set_input(Some(text));
            error.to_string()
        }
    }
}

/// Adds to a sentence which of the keys in it came from the environment.
fn with_variables(what: String, environment: &[FromEnvironment]) -> String {
    let named = environment.iter().filter(|from| what.contains(&from.key));
    named.fold(what.clone(), |text, from| format!("{text}; {} comes from {}", from.key, from.variable))
}

/// Variables that are a typing error away from one of ours. Others are not our business: an orchestrator may set variables by
/// the name of a service.
fn warnings(variables: &[(String, String)], environment: &[FromEnvironment]) -> Vec<String> {
    let known: Vec<String> = KEYS.iter().flat_map(|key| (0..9).map(|place| key.variable(place))).collect();
    let is_used = |name: &String| environment.iter().any(|from| from.variable == *name);
    let similar = |name: &String| nearest(name, known.iter().map(String::as_str), EDITS_MAX).map(str::to_owned);
    variables
        .iter()
        .filter(|(name, _)| !is_used(name))
        .filter_map(|(name, _)| Some(format!("{name} is not used; did you mean {}?", similar(name)?)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::tests::GOOD;
    use super::*;

    fn with(variables: &[(&str, &str)]) -> Result<Loaded, String> {
        let variables: Vec<(String, String)> =
            variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        parse(GOOD, &variables)
    }

    #[test]
    fn a_secret_from_the_environment_is_not_shown() {
        let loaded = with(&[("DUOLOG_AUTH_INIT_USER", "root"), ("DUOLOG_AUTH_INIT_USER_SECRET", "12345678")]).unwrap();
        assert_eq!(loaded.config.auth.init_user_secret.as_ref().map(|secret| secret.reveal()), Some("12345678"));
        assert!(!format!("{loaded:?}").contains("1234"), "{loaded:?}");
        let error =
            with(&[("DUOLOG_AUTH_INIT_USER", "root"), ("DUOLOG_AUTH_INIT_USER_SECRET", "ab cd ef")]).unwrap_err();
        assert!(error.contains("DUOLOG_AUTH_INIT_USER_SECRET") && !error.contains("ab cd"), "{error}");
    }

    #[test]
    fn the_environment_goes_before_the_file() {
        let loaded = with(&[
            ("DUOLOG_CLUSTER_NAME", "other"),
            ("DUOLOG_BROKER_NUM_PARTITIONS", "7"),
            ("DUOLOG_BROKER_AUTO_CREATE_TOPICS_ENABLE", "false"),
            ("DUOLOG_LISTEN_KAFKA", "0.0.0.0:19092"),
            ("DUOLOG_LOGGING_FORMAT", "json"),
            ("DUOLOG_NODES_0_HOST", "a.example"),
            ("DUOLOG_NODES_1_ID", "1"),
            ("DUOLOG_NODES_1_HOST", "b.example"),
            ("DUOLOG_NODES_1_KAFKA_PORT", "9092"),
            ("DUOLOG_NODES_1_GRPC_PORT", "7070"),
        ])
        .unwrap();
        let config = loaded.config;
        assert_eq!((config.cluster_name.as_str(), config.broker.num_partitions), ("other", 7));
        assert_eq!((config.broker.auto_create_topics_enable, config.listen.kafka.port()), (false, 19092));
        assert_eq!(config.logging.format, super::super::LogFormat::Json);
        let hosts: Vec<&str> = config.nodes.iter().map(|node| node.host.as_str()).collect();
        assert_eq!(hosts, ["a.example", "b.example"]);
        assert_eq!(loaded.environment.len(), 10);
        assert_eq!(loaded.environment[0].key, "cluster_name");
        assert!(loaded.environment.iter().any(|from| from.key == "nodes[1].host" && from.value == "b.example"));
        assert_eq!(loaded.warnings, Vec::<String>::new());
    }

    #[test]
    fn required_keys_may_come_from_the_environment_alone() {
        let text = GOOD.replacen("cluster_name = \"c\"\n", "", 1).replacen("kafka = \"127.0.0.1:9092\"\n", "", 1);
        assert!(parse(&text, &[]).unwrap_err().contains("missing field"));
        let variables = [
            ("DUOLOG_CLUSTER_NAME".to_owned(), "c".to_owned()),
            ("DUOLOG_LISTEN_KAFKA".to_owned(), "127.0.0.1:9092".to_owned()),
        ];
        assert_eq!(parse(&text, &variables).unwrap().config, parse(GOOD, &[]).unwrap().config);
    }

    #[test]
    fn a_wrong_variable_is_named_with_what_was_expected() {
        for (name, value, expected) in [
            ("DUOLOG_NODE_ID", "one", "DUOLOG_NODE_ID=\"one\": expected a whole number"),
            ("DUOLOG_NODE_ID", "-1", "expected a whole number of at least 0"),
            ("DUOLOG_TESTING_SKIP_FLUSH", "yes", "expected true or false"),
            ("DUOLOG_LISTEN_GRPC", "nowhere", "DUOLOG_LISTEN_GRPC=\"nowhere\": "),
            ("DUOLOG_LOGGING_FORMAT", "xml", "DUOLOG_LOGGING_FORMAT=\"xml\": unknown variant `xml`"),
            ("DUOLOG_NODES_0_KAFKA_PORT", "70000", "DUOLOG_NODES_0_KAFKA_PORT=\"70000\": "),
            ("DUOLOG_NODE_ID", "5", "node_id comes from DUOLOG_NODE_ID"),
        ] {
            let error = with(&[(name, value)]).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn a_misspelt_variable_is_a_warning_and_others_are_not_ours() {
        let loaded =
            with(&[("DUOLOG_NODE_DI", "1"), ("DUOLOG_SERVICE_HOST", "x"), ("DUOLOG_PORT", "tcp://x")]).unwrap();
        assert_eq!(loaded.warnings, ["DUOLOG_NODE_DI is not used; did you mean DUOLOG_NODE_ID?"]);
    }

    #[test]
    fn an_unknown_key_is_named_with_its_line_and_the_nearest_one() {
        for (from, to, line, suggestion) in [
            ("cluster_name", "cluster_nane", 2, Some("`cluster_name`")),
            ("node_id = 0", "node_id = 0\nnum_partitions = 3", 4, Some("`broker.num_partitions`")),
            ("[listen]", "[log]\nsegment_size_byte = 1\n[listen]", 6, Some("`log.segment_size_bytes`")),
            ("[listen]", "[brokers]\nx = 1\n[listen]", 5, Some("`broker`")),
            ("kafka_port", "kafka_prot", 12, Some("`nodes.kafka_port`")),
            ("[listen]", "something_else = 1\n[listen]", 5, None),
        ] {
            let error = parse(&GOOD.replacen(from, to, 1), &[]).unwrap_err();
            assert!(error.starts_with(&format!("line {line}: unknown field")), "{error}");
            match suggestion {
                Some(suggestion) => assert!(error.ends_with(&format!("did you mean {suggestion}?")), "{error}"),
                None => assert!(!error.contains("did you mean"), "{error}"),
            }
        }
    }

    #[test]
    fn every_key_has_a_variable_of_its_own() {
        let mut variables: Vec<String> = KEYS.iter().map(|key| key.variable(0)).collect();
        variables.sort_unstable();
        variables.dedup();
        assert_eq!(variables.len(), KEYS.len());
    }
}
