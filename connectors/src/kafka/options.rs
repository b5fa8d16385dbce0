//! The keys that say where the brokers are and how to talk to them, and librdkafka options passed through. An option
//! that would break an invariant of the pipeline is refused by name, with the reason.

use driftmill_config::{Field, FromValue, Kind, Need, Problems, Secret, Section};
use rdkafka::config::ClientConfig;

use super::context::Context;

/// Keys of the table `tls`.
const TLS_FIELDS: &[Field] = &[
    Field {
        name: "ca_file",
        kind: Kind::String,
        need: Need::Optional("the certificate authorities of the system"),
        doc: "PEM file with the certificates of the authorities that the brokers' certificates are checked against.",
    },
    Field {
        name: "certificate_file",
        kind: Kind::String,
        need: Need::Optional("no client certificate"),
        doc: "PEM file with the certificate that proves who we are.",
    },
    Field {
        name: "key_file",
        kind: Kind::String,
        need: Need::Optional("no client certificate"),
        doc: "PEM file with the private key of `certificate_file`.",
    },
    Field {
        name: "key_password",
        kind: Kind::Secret,
        need: Need::Optional("the private key is not encrypted"),
        doc: "Password of `key_file`.",
    },
    Field {
        name: "verify",
        kind: Kind::Bool,
        need: Need::Optional("true"),
        doc: "Whether a broker's certificate and name are checked. `false` is for tests only.",
    },
];

/// Mechanisms of SASL that are built in.
const MECHANISMS: &[&str] = &["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"];

/// Keys of the table `sasl`.
const SASL_FIELDS: &[Field] = &[
    Field {
        name: "mechanism",
        kind: Kind::OneOf(MECHANISMS),
        need: Need::Required,
        doc: "How to authenticate. PLAIN sends the password: use it with `tls` only.",
    },
    Field {
        name: "username",
        kind: Kind::String,
        need: Need::Required,
        doc: "The user.",
    },
    Field {
        name: "password",
        kind: Kind::Secret,
        need: Need::Required,
        doc: "The user's password.",
    },
];

/// The field `tls`, of sources and sinks.
pub(super) const TLS: Field = Field {
    name: "tls",
    kind: Kind::Table(TLS_FIELDS),
    need: Need::Optional("connections are not encrypted"),
    doc: "Encrypts the connections to the brokers; an empty table is enough.",
};

/// The field `sasl`, of sources and sinks.
pub(super) const SASL: Field = Field {
    name: "sasl",
    kind: Kind::Table(SASL_FIELDS),
    need: Need::Optional("no authentication"),
    doc: "Authenticates with user name and password.",
};

/// The field `options`, of sources and sinks.
pub(super) const OPTIONS: Field = Field {
    name: "options",
    kind: Kind::Map,
    need: Need::Optional("none"),
    doc: "Options of librdkafka by their own names, for tuning. Those on which delivery depends \
          are refused.",
};

/// Options that are refused, with the reason; a name that ends in `*` stands for all that begin so.
const REFUSED: &[(&str, &str)] = &[
    ("acks", "a record counts as written only when all replicas have it"),
    ("allow.auto.create.topics", "a misspelt topic must be an error"),
    (
        "auto.commit.*",
        "the epoch log says where to go on, not the group's offsets",
    ),
    (
        "auto.offset.reset",
        "a start position that is gone must stop the pipeline; the first run begins at `start`",
    ),
    ("batch.size", "it follows from `message_bytes_max`"),
    ("bootstrap.servers", "use `brokers`"),
    ("check.crcs", "damaged records must never be read"),
    ("client.id", "it is made of the pipeline's name"),
    ("compression.*", "use `compression` in [sink]"),
    ("delivery.report.only.error", "the sink counts what is not acknowledged"),
    ("delivery.timeout.ms", "an epoch is sent until it is acknowledged"),
    (
        "enable.auto.commit",
        "the epoch log says where to go on, not the group's offsets",
    ),
    (
        "enable.auto.offset.store",
        "the epoch log says where to go on, not the group's offsets",
    ),
    ("enable.gapless.guarantee", "the sink itself sends a failed epoch again"),
    (
        "enable.idempotence",
        "without it records are written twice or out of order",
    ),
    (
        "enable.partition.eof",
        "the engine must know when a partition is read to its end",
    ),
    ("enable.ssl.*", "use the table `tls`"),
    (
        "group.*",
        "partitions are assigned by hand to one owner; the group only carries offsets for lag tools",
    ),
    ("isolation.level", "records of aborted transactions must never be read"),
    ("linger.ms", "use `linger` in [sink]"),
    ("log.queue", "log lines are collected by the connector"),
    ("max.in.flight*", "more requests in flight break the order of records"),
    ("message.max.bytes", "use `message_bytes_max` in [sink]"),
    ("message.send.max.retries", "an epoch is sent until it is acknowledged"),
    ("message.timeout.ms", "an epoch is sent until it is acknowledged"),
    ("metadata.broker.list", "use `brokers`"),
    (
        "partition.assignment.strategy",
        "partitions are assigned by hand to one owner",
    ),
    (
        "partitioner*",
        "records of one key must stay in the partition where other clients put them",
    ),
    ("plugin.library.paths", "no code is loaded from a path"),
    ("queue.buffering.max.ms", "use `linger` in [sink]"),
    ("queuing.strategy", "records must stay in order"),
    (
        "request.required.acks",
        "a record counts as written only when all replicas have it",
    ),
    ("request.timeout.ms", "an epoch is sent until it is acknowledged"),
    ("retries", "an epoch is sent until it is acknowledged"),
    ("sasl.*", "use the table `sasl`"),
    ("security.protocol", "use the tables `tls` and `sasl`"),
    ("ssl.*", "use the table `tls`"),
    ("ssl_*", "use the table `tls`"),
    ("test.mock.*", "the brokers must be those of `brokers`"),
    (
        "transaction.timeout.ms",
        "it is chosen so that a broker may be away for minutes",
    ),
    (
        "transactional.id",
        "it is made of the pipeline's name and fences a second owner",
    ),
];

/// Beginnings of the options that are about connections, not about reading or writing; a sink takes these over from
/// the source.
const SHARED: &[&str] = &[
    "api.version.",
    "broker.",
    "connections.",
    "debug",
    "log.",
    "metadata.",
    "reconnect.",
    "retry.",
    "socket.",
    "topic.metadata.",
];

/// Where the brokers are and how to talk to them, checked. Has no `Debug`, because it holds secrets.
#[derive(Clone)]
pub struct Connection {
    brokers: String,
    security: Vec<(&'static str, String)>,
    options: Vec<(String, String)>,
}

impl Connection {
    /// Brokers that need neither encryption nor authentication; `brokers` is a list of `host:port` with commas.
    #[must_use]
    pub fn plain(brokers: &str) -> Self {
        Self {
            brokers: brokers.to_owned(),
            security: Vec::new(),
            options: Vec::new(),
        }
    }

    /// Reads `brokers`, `tls`, `sasl` and `options` of a section.
    pub fn read(section: &Section<'_>, problems: &mut Problems) -> Option<Self> {
        let before = problems.len();
        let brokers: Option<String> = section.require("brokers", problems);
        if brokers.as_deref().is_some_and(|brokers| brokers.trim().is_empty()) {
            problems.push(
                section.key_span("brokers"),
                "`brokers` is empty",
                Some("write host:port".to_owned()),
            );
        }
        let security = security(section, problems);
        let options = options(&section.table("options", problems), problems);
        (problems.len() == before).then(|| Self {
            brokers: brokers.unwrap_or_default(),
            security,
            options,
        })
    }

    /// Reads the connection of a section: its own where it names brokers, otherwise that of `defaults`, with the
    /// section's own options on top.
    pub fn read_or_inherit(section: &Section<'_>, defaults: &Section<'_>, problems: &mut Problems) -> Option<Self> {
        if section.has("brokers") || !defaults.has("brokers") {
            return Self::read(section, problems);
        }
        let before = problems.len();
        for key in ["tls", "sasl"] {
            if section.has(key) {
                let message = format!("`{key}` without `brokers`: both are taken from [{}]", defaults.path());
                problems.push(
                    section.key_span(key),
                    message,
                    Some("write `brokers` here too".to_owned()),
                );
            }
        }
        let own = options(&section.table("options", problems), problems);
        let inherited = Self::read(defaults, problems);
        (problems.len() == before).then_some(())?;
        let mut connection = inherited?;
        connection
            .options
            .retain(|(name, _)| SHARED.iter().any(|start| name.starts_with(start)));
        connection.options.extend(own);
        Some(connection)
    }

    /// The brokers, as given.
    #[must_use]
    pub fn brokers(&self) -> &str {
        &self.brokers
    }

    /// Who the brokers take us for; `None` where they make the name of a certificate.
    pub(super) fn principal(&self) -> Option<String> {
        let setting = |name: &str| {
            let found = self.security.iter().find(|(key, _)| *key == name);
            found.map(|(_, value)| value.as_str())
        };
        match (setting("sasl.username"), setting("security.protocol")) {
            (Some(user), _) => Some(format!("User:{user}")),
            (None, Some("SSL")) => None,
            (None, _) => Some("User:ANONYMOUS".to_owned()),
        }
    }

    /// A configuration for a client named `client_id`: what was configured, and `fixed` on top.
    pub(super) fn client(&self, client_id: &str, fixed: &[(&str, &str)]) -> ClientConfig {
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", &self.brokers)
            .set("client.id", client_id);
        config
            .set("reconnect.backoff.ms", "50")
            .set("reconnect.backoff.max.ms", "2000");
        config
            .set("topic.metadata.refresh.interval.ms", "30000")
            .set("allow.auto.create.topics", "false");
        for (name, value) in &self.security {
            config.set(*name, value);
        }
        for (name, value) in fixed {
            config.set(*name, *value);
        }
        // The refused ones are not among them, so they change no invariant.
        for (name, value) in &self.options {
            config.set(name, value);
        }
        config
    }

    /// An empty context for a client of this connection.
    pub(super) fn context(&self, client_id: &str) -> Context {
        Context::new(format!("{client_id} at {}", self.brokers))
    }
}

fn security(section: &Section<'_>, problems: &mut Problems) -> Vec<(&'static str, String)> {
    let mut settings = Vec::new();
    let tls = section.table("tls", problems);
    let sasl = section.table("sasl", problems);
    if tls.is_present() {
        read_tls(&tls, &mut settings, problems);
    }
    if sasl.is_present() {
        read_sasl(&sasl, &mut settings, problems);
    }
    let protocol = match (tls.is_present(), sasl.is_present()) {
        (false, false) => "PLAINTEXT",
        (true, false) => "SSL",
        (false, true) => "SASL_PLAINTEXT",
        (true, true) => "SASL_SSL",
    };
    settings.push(("security.protocol", protocol.to_owned()));
    settings
}

fn read_tls(tls: &Section<'_>, settings: &mut Vec<(&'static str, String)>, problems: &mut Problems) {
    let files = [
        ("ca_file", "ssl.ca.location"),
        ("certificate_file", "ssl.certificate.location"),
        ("key_file", "ssl.key.location"),
    ];
    for (key, name) in files {
        let Some(path) = tls.get::<String>(key, problems) else {
            continue;
        };
        if let Err(error) = std::fs::File::open(&path) {
            problems.push(tls.key_span(key), format!("cannot read `{path}`: {error}"), None);
        }
        settings.push((name, path));
    }
    if tls.has("certificate_file") != tls.has("key_file") {
        let message = "`certificate_file` and `key_file` belong together";
        problems.push(tls.span(), message, Some("give both or none".to_owned()));
    }
    if let Some(password) = tls.get::<Secret>("key_password", problems) {
        settings.push(("ssl.key.password", password.expose().to_owned()));
    }
    if !tls.get_or("verify", true, problems) {
        settings.push(("enable.ssl.certificate.verification", "false".to_owned()));
        settings.push(("ssl.endpoint.identification.algorithm", "none".to_owned()));
    }
}

fn read_sasl(sasl: &Section<'_>, settings: &mut Vec<(&'static str, String)>, problems: &mut Problems) {
    if let Some(mechanism) = sasl.require::<String>("mechanism", problems) {
        settings.push(("sasl.mechanism", mechanism));
    }
    if let Some(username) = sasl.require::<String>("username", problems) {
        settings.push(("sasl.username", username));
    }
    if let Some(password) = sasl.require::<Secret>("password", problems) {
        settings.push(("sasl.password", password.expose().to_owned()));
    }
}

fn options(table: &Section<'_>, problems: &mut Problems) -> Vec<(String, String)> {
    let mut options = Vec::new();
    for (name, span) in table.entries() {
        let Some(value) = text(table, name, problems) else {
            continue;
        };
        match option_fault(name, &value) {
            None => options.push((name.to_owned(), value)),
            Some((message, help)) => problems.push(span, message, help),
        }
    }
    options
}

/// The value of an option as text; numbers and booleans may be written as such.
fn text(table: &Section<'_>, name: &str, problems: &mut Problems) -> Option<String> {
    let value = table.value(name)?;
    let number = i64::from_value(value).map(|number| number.to_string());
    let other = number.or_else(|_| bool::from_value(value).map(|flag| flag.to_string()));
    other.ok().or_else(|| table.get::<String>(name, problems))
}

/// What is wrong with an option, and what to do; `None` when it may be passed through.
fn option_fault(name: &str, value: &str) -> Option<(String, Option<String>)> {
    if let Some((_, reason)) = REFUSED.iter().find(|(refused, _)| matches(refused, name)) {
        return Some((format!("option `{name}` is refused: {reason}"), None));
    }
    // librdkafka checks name and value when it makes a configuration; no client is started by that.
    let mut probe = ClientConfig::new();
    probe.set(name, value);
    let error = probe.create_native_config().err()?;
    let detail = match error {
        rdkafka::error::KafkaError::ClientConfig(_, detail, _, _) => detail,
        other => other.to_string(),
    };
    Some((format!("librdkafka does not take the option `{name}`: {detail}"), None))
}

fn matches(pattern: &str, name: &str) -> bool {
    pattern
        .strip_suffix('*')
        .map_or(pattern == name, |start| name.starts_with(start))
}

#[cfg(test)]
mod tests {
    use driftmill_config::Document;

    use super::*;

    fn read(text: &str) -> (Option<Connection>, String) {
        let document = Document::parse("t.toml", text, &|_| None).unwrap();
        let mut problems = document.problems();
        let root = document.root();
        let connection = Connection::read(&root.table("source", &mut problems), &mut problems);
        (connection, problems.render())
    }

    #[test]
    fn every_option_on_which_delivery_depends_is_refused_by_name() {
        for name in [
            "enable.auto.commit",
            "enable.auto.offset.store",
            "auto.offset.reset",
            "isolation.level",
            "group.protocol",
            "partition.assignment.strategy",
            "group.id",
            "transactional.id",
            "enable.idempotence",
            "acks",
            "request.required.acks",
            "bootstrap.servers",
            "metadata.broker.list",
            "security.protocol",
            "ssl.ca.pem",
            "enable.ssl.certificate.verification",
            "sasl.password",
            "check.crcs",
            "enable.partition.eof",
            "message.timeout.ms",
            "delivery.timeout.ms",
            "max.in.flight",
            "max.in.flight.requests.per.connection",
            "group.instance.id",
            "transaction.timeout.ms",
            "retries",
            "partitioner",
            "client.id",
        ] {
            let (message, _) = option_fault(name, "1").unwrap_or_else(|| panic!("{name} passed"));
            assert!(message.contains(name) && message.contains("refused"), "{message}");
        }
    }

    #[test]
    fn other_options_are_checked_by_the_library() {
        assert_eq!(option_fault("fetch.min.bytes", "1"), None);
        assert_eq!(option_fault("socket.keepalive.enable", "true"), None);
        assert!(
            option_fault("fetch.min.byts", "1")
                .unwrap()
                .0
                .contains("fetch.min.byts")
        );
        assert!(
            option_fault("fetch.min.bytes", "many")
                .unwrap()
                .0
                .contains("fetch.min.bytes")
        );
    }

    #[test]
    fn a_bad_option_is_reported_at_its_line() {
        let text = "[source]\nbrokers = \"b:1\"\n[source.options]\n\"fetch.min.bytes\" = \"2\"\nacks = \"1\"\n";
        let (connection, rendered) = read(text);
        assert!(connection.is_none());
        assert!(
            rendered.contains("t.toml:5:") && rendered.contains("`acks` is refused"),
            "{rendered}"
        );
    }

    #[test]
    fn tls_and_sasl_make_the_protocol_and_no_secret_is_shown() {
        let text = "[source]\nbrokers = \"b:1\"\ntls = {}\n\
                    sasl = { mechanism = \"SCRAM-SHA-512\", username = \"u\", password = \"hunter2\" }\n";
        let (connection, rendered) = read(text);
        assert!(!rendered.contains("hunter2"), "{rendered}");
        let connection = connection.unwrap();
        assert_eq!(connection.principal().as_deref(), Some("User:u"));
        assert_eq!(Connection::plain("b:1").principal().as_deref(), Some("User:ANONYMOUS"));
        let config = connection.client("c", &[]);
        assert_eq!(config.get("security.protocol"), Some("SASL_SSL"));
        assert_eq!(config.get("sasl.password"), Some("hunter2"));
        assert!(config.create_native_config().is_ok());
    }

    #[test]
    fn a_sink_without_brokers_takes_the_connection_of_the_source() {
        let text = "[source]\nbrokers = \"b:1\"\ntls = {}\n\
                    options = { \"fetch.min.bytes\" = \"2\", \"socket.keepalive.enable\" = \"true\" }\n\
                    [sink]\ntopic = \"t\"\n[empty]\n";
        let document = Document::parse("t.toml", text, &|_| None).unwrap();
        let mut problems = document.problems();
        let (source, sink) = (
            document.root().table("source", &mut problems),
            document.root().table("sink", &mut problems),
        );
        let config = Connection::read_or_inherit(&sink, &source, &mut problems)
            .unwrap()
            .client("c", &[]);
        assert_eq!(config.get("bootstrap.servers"), Some("b:1"));
        assert_eq!(config.get("security.protocol"), Some("SSL"));
        assert_eq!(config.get("socket.keepalive.enable"), Some("true"));
        assert_eq!(
            config.get("fetch.min.bytes"),
            None,
            "an option of consumers reached a producer"
        );
        let empty = document.root().table("empty", &mut problems);
        assert!(Connection::read_or_inherit(&sink, &empty, &mut problems).is_none());
        assert!(problems.render().contains("brokers"), "{}", problems.render());
    }
}
