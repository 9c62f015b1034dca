//! Where log lines go, and when their file is put aside.

use serde_json::Value;

/// When a log file is put aside, and which of those stay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rotation {
    /// Bytes that one file may have.
    pub max_bytes: u64,
    /// Days that a file is kept; 0 for ever.
    pub max_age_days: u64,
    /// How many are kept; 0 for all.
    pub max_files: usize,
    /// Names have the time of this machine's zone, otherwise UTC.
    pub local_time: bool,
    /// Those that are kept are compressed.
    pub compress: bool,
}

/// systemd's journal.
pub const JOURNAL: &str = "systemd/journal";
const MEBIBYTE: u64 = 1 << 20;
const DEFAULT_MEBIBYTES: u64 = 100;

/// The outputs that the flag names, each once.
pub fn outputs(text: &str) -> Result<Vec<String>, String> {
    let mut outputs: Vec<String> = Vec::new();
    for output in text.split(',').filter(|output| !output.is_empty()) {
        if !outputs.iter().any(|known| known == output) {
            outputs.push(output.to_owned());
        }
    }
    match outputs.len() {
        0 => outputs.push("default".to_owned()),
        1 => {}
        _ if outputs.iter().any(|output| output == "default") => {
            return Err("--log-outputs: multi logoutput for \"default\" is not supported yet; call it stderr".to_owned());
        }
        _ if outputs.iter().any(|output| output == JOURNAL) => {
            return Err(format!("--log-outputs: {JOURNAL} cannot be combined with other outputs (set to {text})"));
        }
        _ => {}
    }
    Ok(outputs)
}

/// What `--log-rotation-config-json` says, for the one file among the outputs. As in etcd, keys may be written in any case,
/// and unknown ones are ignored.
pub fn rotation(enabled: bool, json: &str, outputs: &[String]) -> Result<Option<Rotation>, String> {
    if !enabled {
        return Ok(None);
    }
    let files = outputs.iter().filter(|output| !matches!(output.as_str(), "default" | "stderr" | "stdout")).count();
    if files > 1 || (files == 0 && outputs.len() == 1) {
        return Err("--log-outputs requires a single file path when --enable-log-rotation is set".to_owned());
    }
    let settings = match serde_json::from_str(json) {
        Ok(Value::Object(settings)) => settings,
        Ok(_) => return Err(invalid("it must be an object, such as {\"maxsize\": 100}")),
        Err(e) => return Err(format!("--log-rotation-config-json: improperly formatted log rotation config: {e}")),
    };
    let mut mebibytes = DEFAULT_MEBIBYTES;
    let mut rotation = Rotation { max_bytes: 0, max_age_days: 0, max_files: 0, local_time: false, compress: false };
    for (key, value) in settings.iter().filter(|(_, value)| !value.is_null()) {
        let number = || value.as_u64().ok_or_else(|| invalid(&format!("{key} must be a whole number that is not negative")));
        let flag = || value.as_bool().ok_or_else(|| invalid(&format!("{key} must be true or false")));
        match key.to_lowercase().as_str() {
            "maxsize" => mebibytes = number()?,
            "maxage" => rotation.max_age_days = number()?,
            "maxbackups" => rotation.max_files = usize::try_from(number()?).unwrap_or(usize::MAX),
            "localtime" => rotation.local_time = flag()?,
            "compress" => rotation.compress = flag()?,
            _ => {}
        }
    }
    rotation.max_bytes = if mebibytes == 0 { DEFAULT_MEBIBYTES } else { mebibytes }.saturating_mul(MEBIBYTE);
    Ok(Some(rotation))
}

fn invalid(why: &str) -> String {
    format!("--log-rotation-config-json: invalid log rotation config: {why}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(json: &str) -> Result<Rotation, String> {
        rotation(true, json, &["/log".to_owned()]).map(Option::unwrap)
    }

    #[test]
    fn outputs_count_once_and_the_journal_and_the_default_stand_alone() {
        assert_eq!(outputs("stderr,/a,stderr").unwrap(), ["stderr", "/a"]);
        assert_eq!(outputs("").unwrap(), ["default"]);
        assert_eq!(outputs(JOURNAL).unwrap(), [JOURNAL]);
        assert!(outputs("default,/a").unwrap_err().contains("multi logoutput for \"default\" is not supported yet"));
        assert!(outputs("/a,systemd/journal").unwrap_err().contains("cannot be combined"));
    }

    #[test]
    fn a_rotation_is_read_as_etcd_reads_it() {
        let default = of("{\"maxsize\": 100, \"maxage\": 0, \"maxbackups\": 0, \"localtime\": false, \"compress\": false}");
        assert_eq!(default, of("{}"));
        assert_eq!(default.unwrap().max_bytes, 100 << 20);
        let other =
            of("{\"maxSize\": 1, \"maxage\": 7, \"maxbackups\": 3, \"localtime\": true, \"compress\": true, \"more\": 1}");
        let wanted = Rotation { max_bytes: 1 << 20, max_age_days: 7, max_files: 3, local_time: true, compress: true };
        assert_eq!(other.unwrap(), wanted);
        assert_eq!(of("{\"maxsize\": 0, \"maxage\": null}"), of("{}"));
        assert!(of("{maxsize}").unwrap_err().contains("improperly formatted log rotation config"));
        assert!(of("").unwrap_err().contains("improperly formatted log rotation config"));
        for json in ["{\"maxsize\": \"1\"}", "{\"maxsize\": -1}", "{\"compress\": 1}", "[]"] {
            assert!(of(json).unwrap_err().contains("invalid log rotation config"), "{json}");
        }
    }

    #[test]
    fn exactly_one_file_can_be_put_aside() {
        let with = |outputs: &[&str]| rotation(true, "{}", &outputs.iter().map(ToString::to_string).collect::<Vec<_>>());
        assert!(with(&["/a"]).is_ok() && with(&["stderr", "/a"]).is_ok());
        for outputs in [&["default"][..], &["stdout"], &["/a", "/b"]] {
            assert!(with(outputs).unwrap_err().contains("requires a single file path"), "{outputs:?}");
        }
        assert_eq!(rotation(false, "nonsense", &[]), Ok(None));
    }
}
