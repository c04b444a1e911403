//! Results as CSV, one row for each measurement.

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize, Serializer};

use crate::scenario::Scenario;

/// One measurement. The fields are the columns.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// Name of the closure.
    pub closure: String,
    /// Number of its store paths.
    pub paths: u64,
    /// Number of its files.
    pub files: u64,
    /// Sum of its archives' sizes.
    pub bytes: u64,
    /// The scenario.
    pub scenario: Scenario,
    /// Codec of the layers; empty without one.
    pub codec: String,
    /// Maximum number of layers of the image; 0 without a limit.
    pub layers: u64,
    /// The measured tool.
    pub contender: String,
    /// Number of the run, from 1.
    pub run: u64,
    /// Changed MiB of the closure, in the scenario that varies it.
    pub changed_mib: Option<u64>,
    /// Wall-clock seconds.
    #[serde(serialize_with = "four_digits")]
    pub seconds: f64,
    /// CPU seconds in user mode.
    #[serde(serialize_with = "four_digits")]
    pub user: f64,
    /// CPU seconds in the kernel.
    #[serde(serialize_with = "four_digits")]
    pub system: f64,
    /// Peak resident memory of the largest process.
    pub max_rss_kib: u64,
    /// Bytes of the uploaded blobs, in scenarios with a registry.
    pub sent_bytes: Option<u64>,
    /// Number of the uploaded blobs, including the image's config.
    pub sent_blobs: Option<u64>,
    /// Bytes of the blobs that the client has fetched from the registry.
    #[serde(default)]
    pub fetched_bytes: Option<u64>,
    /// Number of requests that the registry has answered.
    #[serde(default)]
    pub requests: Option<u64>,
    /// CPU seconds of the registry.
    #[serde(default, serialize_with = "optional_four_digits")]
    pub registry_cpu: Option<f64>,
}

/// Number of the last columns, which earlier results lack.
const LATER: usize = 3;

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes fields by reference")]
fn four_digits<S: Serializer>(seconds: &f64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&format_args!("{seconds:.4}"))
}

#[expect(clippy::ref_option, reason = "serde passes fields by reference")]
fn optional_four_digits<S: Serializer>(seconds: &Option<f64>, serializer: S) -> Result<S::Ok, S::Error> {
    match seconds {
        Some(seconds) => four_digits(seconds, serializer),
        None => serializer.serialize_none(),
    }
}

/// Returns the rows as CSV. Without values in the later columns, the result has the columns of earlier results.
pub fn write(rows: &[Row]) -> Result<String> {
    let mut all = csv::Writer::from_writer(Vec::new());
    for row in rows {
        all.serialize(row)?;
    }
    let all = all.into_inner()?;
    let mut reader = csv::ReaderBuilder::new().has_headers(false).from_reader(&all[..]);
    let records = reader.records().collect::<Result<Vec<_>, _>>()?;
    let is_earlier = records.iter().skip(1).all(|record| record.iter().rev().take(LATER).all(str::is_empty));
    let mut writer = csv::Writer::from_writer(Vec::new());
    for record in &records {
        let columns = if is_earlier { record.len() - LATER } else { record.len() };
        writer.write_record(record.iter().take(columns))?;
    }
    Ok(String::from_utf8(writer.into_inner()?)?)
}

/// Reads rows from CSV. The columns must be those of this version.
pub fn read(text: &str) -> Result<Vec<Row>> {
    let earlier = write(&[Row::default()])?;
    let later = write(&[Row { requests: Some(0), ..Row::default() }])?;
    let [earlier, later] = [&earlier, &later].map(|text| text.lines().next().unwrap_or_default());
    let found = text.lines().next().unwrap_or_default();
    ensure!([earlier, later].contains(&found), "the first line must be {later}, got {found}");
    csv::Reader::from_reader(text.as_bytes())
        .deserialize()
        .collect::<Result<_, _>>()
        .context("cannot read results")
}

/// Adds new rows and drops the old ones of the same closures, scenarios and codecs.
pub fn replace(old: Vec<Row>, new: &[Row]) -> Vec<Row> {
    let key = |row: &Row| (row.closure.clone(), row.scenario.name, row.codec.clone());
    let kept = old.into_iter().filter(|row| !new.iter().any(|new| key(new) == key(row)));
    kept.chain(new.iter().cloned()).collect()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;

    fn row() -> Row {
        Row {
            closure: "large".into(),
            paths: 1266,
            files: 9,
            bytes: 5_465_756_440,
            scenario: Scenario::named("fresh runner: leaf changed").unwrap(),
            codec: "zstd:1".into(),
            layers: 100,
            contender: "nix2container nested by hand".into(),
            run: 2,
            changed_mib: None,
            seconds: 1.5,
            user: 0.25,
            system: 0.125,
            max_rss_kib: 4096,
            sent_bytes: Some(0),
            sent_blobs: Some(1),
            fetched_bytes: Some(0),
            requests: Some(6),
            registry_cpu: Some(0.5),
        }
    }

    #[test]
    fn csv_keeps_all_values() {
        let rows = vec![row(), Row { sent_bytes: None, changed_mib: Some(512), ..row() }];
        assert_eq!(read(&write(&rows).unwrap()).unwrap(), rows);
    }

    #[test]
    fn rows_without_later_values_have_the_earlier_columns() {
        let row = Row { fetched_bytes: None, requests: None, registry_cpu: None, ..row() };
        let text = write(std::slice::from_ref(&row)).unwrap();
        assert!(
            text.starts_with("closure,") && text.lines().next().unwrap().ends_with(",sent_blobs"),
            "{text}"
        );
        assert_eq!(read(&text).unwrap(), [row]);
    }

    /// Results of earlier versions stay readable, and a partial measurement rewrites them unchanged.
    #[test]
    fn committed_results_are_read_and_written_unchanged() {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("results");
        let files = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
        let files: Vec<_> = files.filter(|file| file.extension().is_some_and(|ext| ext == "csv")).collect();
        assert!(!files.is_empty());
        for file in files {
            let text = fs::read_to_string(&file).unwrap();
            assert_eq!(write(&read(&text).unwrap()).unwrap(), text, "{}", file.display());
        }
    }

    #[test]
    fn errors_name_the_line() {
        let error = |text: &str| format!("{:#}", read(text).unwrap_err());
        let text = write(&[row()]).unwrap();
        assert!(error("x,y\n").starts_with("the first line must be closure,paths,"));
        let header = text.lines().next().unwrap();
        assert!(error(&format!("{header}\n1,2\n")).contains("line: 2"));
        assert!(error(&text.replace("1266", "many")).contains("line: 2"));
        let unknown = error(&text.replace("fresh runner: leaf changed", "stale runner"));
        assert!(unknown.contains("no such scenario: stale runner"), "{unknown}");
    }

    #[test]
    fn new_rows_replace_old_rows_of_their_scenario() {
        let other = Row { closure: "small".into(), ..row() };
        let new = Row { seconds: 9.0, ..row() };
        assert_eq!(replace(vec![row(), other.clone()], std::slice::from_ref(&new)), [other, new]);
    }
}
