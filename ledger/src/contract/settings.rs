//! The topic settings that the contract itself obeys. All others are the gateways' business.

/// Kafka's default of `max.message.bytes`: 1 MiB and a record batch's overhead.
pub const BATCH_BYTES_LIMIT_DEFAULT: u32 = 1_048_588;

/// What a topic's settings mean for its contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Kafka's `max.message.bytes`.
    pub batch_bytes_limit: u32,
    /// Kafka's `message.timestamp.type=LogAppendTime`.
    pub log_append_time: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Settings { batch_bytes_limit: BATCH_BYTES_LIMIT_DEFAULT, log_append_time: false }
    }
}

/// A setting whose value the contract cannot obey.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{name}={value} is not {expected}")]
pub struct SettingsError {
    name: String,
    value: String,
    expected: &'static str,
}

impl Settings {
    /// Reads the settings given as text; those that it does not know it leaves to others.
    pub fn parse(settings: &[(String, String)]) -> Result<Self, SettingsError> {
        let mut parsed = Settings::default();
        for (name, value) in settings {
            let error = |expected| SettingsError { name: name.clone(), value: value.clone(), expected };
            match name.as_str() {
                "max.message.bytes" => {
                    let bytes = value.parse::<u32>().ok().filter(|bytes| i32::try_from(*bytes).is_ok());
                    parsed.batch_bytes_limit = bytes.ok_or_else(|| error("a number of bytes below 2^31"))?;
                }
                "message.timestamp.type" => {
                    parsed.log_append_time = match value.as_str() {
                        "CreateTime" => false,
                        "LogAppendTime" => true,
                        _ => return Err(error("CreateTime or LogAppendTime")),
                    };
                }
                _ => {}
            }
        }
        Ok(parsed)
    }
}
