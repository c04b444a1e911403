//! The measurements as rows of CSV. No field has a comma, a quote or a line break in it, which writing checks.

use anyhow::{Context, Result, bail, ensure};

/// One measurement.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Row {
    /// The closure's name.
    pub closure: String,
    /// Its store paths.
    pub paths: u64,
    /// Its files.
    pub files: u64,
    /// The sum of its archives' sizes.
    pub bytes: u64,
    /// What was done.
    pub scenario: String,
    /// How layers were compressed; empty where they were not.
    pub codec: String,
    /// The most layers that the image may have; 0 where there is none.
    pub layers: u64,
    /// Who did it.
    pub contender: String,
    /// Which run it was, from 1.
    pub run: u64,
    /// How much of the closure had changed, where that is what the scenario is about.
    pub changed_mib: Option<u64>,
    /// Wall-clock seconds.
    pub seconds: f64,
    /// Seconds of CPU in user mode.
    pub user: f64,
    /// Seconds of CPU in the kernel.
    pub system: f64,
    /// The most resident memory of a process.
    pub max_rss_kib: u64,
    /// Bytes of the blobs that were uploaded, where there was a registry.
    pub sent_bytes: Option<u64>,
    /// Their number, the image's config among them.
    pub sent_blobs: Option<u64>,
}

/// The first line.
const HEADER: &str = "closure,paths,files,bytes,scenario,codec,layers,contender,run,changed_mib,seconds,user,system,max_rss_kib,\
                      sent_bytes,sent_blobs";

/// The rows as a file's text.
pub fn write(rows: &[Row]) -> Result<String> {
    let mut text = format!("{HEADER}\n");
    for row in rows {
        let optional = |value: Option<u64>| value.map(|value| value.to_string()).unwrap_or_default();
        let fields = [
            row.closure.clone(),
            row.paths.to_string(),
            row.files.to_string(),
            row.bytes.to_string(),
            row.scenario.clone(),
            row.codec.clone(),
            row.layers.to_string(),
            row.contender.clone(),
            row.run.to_string(),
            optional(row.changed_mib),
            format!("{:.4}", row.seconds),
            format!("{:.4}", row.user),
            format!("{:.4}", row.system),
            row.max_rss_kib.to_string(),
            optional(row.sent_bytes),
            optional(row.sent_blobs),
        ];
        ensure!(
            fields.iter().all(|field| !field.contains([',', '"', '\n'])),
            "a field that CSV would have to quote: {fields:?}"
        );
        text += &format!("{}\n", fields.join(","));
    }
    Ok(text)
}

/// The rows of a file's text.
pub fn read(text: &str) -> Result<Vec<Row>> {
    let mut lines = text.lines();
    if lines.next() != Some(HEADER) {
        bail!("the first line is not that of this version's results: {HEADER}");
    }
    let row = |(at, line)| parse(line).with_context(|| format!("line {}", at + 2));
    lines.enumerate().map(row).collect()
}

fn parse(line: &str) -> Result<Row> {
    let fields: Vec<&str> = line.split(',').collect();
    let [
        closure,
        paths,
        files,
        bytes,
        scenario,
        codec,
        layers,
        contender,
        run,
        changed_mib,
        seconds,
        user,
        system,
        max_rss_kib,
        sent_bytes,
        sent_blobs,
    ] = fields[..]
    else {
        bail!("it has {} fields", fields.len());
    };
    let number = |text: &str| text.parse::<u64>().with_context(|| format!("not a number: {text:?}"));
    let optional = |text: &str| if text.is_empty() { Ok(None) } else { number(text).map(Some) };
    let time = |text: &str| text.parse::<f64>().with_context(|| format!("not seconds: {text:?}"));
    Ok(Row {
        closure: closure.to_owned(),
        paths: number(paths)?,
        files: number(files)?,
        bytes: number(bytes)?,
        scenario: scenario.to_owned(),
        codec: codec.to_owned(),
        layers: number(layers)?,
        contender: contender.to_owned(),
        run: number(run)?,
        changed_mib: optional(changed_mib)?,
        seconds: time(seconds)?,
        user: time(user)?,
        system: time(system)?,
        max_rss_kib: number(max_rss_kib)?,
        sent_bytes: optional(sent_bytes)?,
        sent_blobs: optional(sent_blobs)?,
    })
}

/// What was measured anew replaces what was measured of the same closure, scenario and codec before.
pub fn replace(old: Vec<Row>, new: &[Row]) -> Vec<Row> {
    let what = |row: &Row| (row.closure.clone(), row.scenario.clone(), row.codec.clone());
    let kept = old.into_iter().filter(|row| !new.iter().any(|new| what(new) == what(row)));
    kept.chain(new.iter().cloned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row() -> Row {
        Row {
            closure: "large".into(),
            paths: 1266,
            files: 9,
            bytes: 5_465_756_440,
            scenario: "fresh runner: leaf changed".into(),
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
        }
    }

    #[test]
    fn rows_survive_csv() {
        let rows = vec![row(), Row { sent_bytes: None, changed_mib: Some(512), ..row() }];
        assert_eq!(read(&write(&rows).unwrap()).unwrap(), rows);
    }

    #[test]
    fn wrong_files_are_named() {
        let error = |text: &str| format!("{:#}", read(text).unwrap_err());
        assert!(error("x,y\n").starts_with("the first line"));
        assert_eq!(error(&format!("{HEADER}\n1,2\n")), "line 2: it has 2 fields");
        let text = write(&[row()]).unwrap().replace("1266", "many");
        assert!(error(&text).contains("line 2: not a number: \"many\""));
        assert!(write(&[Row { codec: "a,b".into(), ..row() }]).is_err());
    }

    #[test]
    fn new_rows_replace_the_old_of_their_scenario() {
        let other = Row { closure: "small".into(), ..row() };
        let new = Row { seconds: 9.0, ..row() };
        assert_eq!(replace(vec![row(), other.clone()], std::slice::from_ref(&new)), [other, new]);
    }
}
