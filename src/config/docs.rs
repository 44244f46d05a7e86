//! `docs/settings.md`, made from the settings' own table.

use super::settings::{self, Preset, Scope, Setting};
use std::fmt::Write;

const HEAD: &str = "# Settings

<!-- Made from src/config/settings.rs; `UPDATE=1 cargo test --lib settings_page` writes it anew. -->

A setting comes from, each covering the one before: its default, the cluster's configuration in
Consul (KV `lictor/<cluster>/state/config`, TOML, cluster scope only), the file (`-c FILE`, else
`/etc/lictor/lictor.toml` if it exists), the environment, the command line. The layers without KV
must hold together by themselves. Unknown keys are errors that say where they stand. What stands in
KV is live on a running node: [configuration.md](configuration.md) has the commands and the rules.

One rule for all scalars: setting `timeouts.promote` is key `promote` of table `[timeouts]` in the
file, `LICTOR_TIMEOUTS_PROMOTE` in the environment and `--timeouts-promote` on the command line.
Secrets have no flag; lists and tables have neither. An empty variable counts as unset. Consul's own
variables, named below, count too, under lictor's; `CONSUL_HTTP_ADDR` may name several addresses,
separated by commas.

A string in the file may hold `${NAME}` or `${NAME:-default}`; `$${` is a plain `${`. A duration is
a whole number and a unit: `500ms`, `3s`, `10m`, `6h`. A name is 1 to 63 of `a-z`, `0-9` and `-`.
";

/// The page's text.
pub fn settings_page() -> String {
    let mut page = HEAD.to_owned();
    for (scope, title) in [
        (Scope::Local, "Local: image, file, environment and command line only"),
        (Scope::Cluster, "Cluster: the same on every node, in KV too"),
    ] {
        let rows = settings::all().filter(|setting| setting.scope == scope);
        let rows: String = rows.map(row).collect();
        write!(
            page,
            "\n## {title}\n\n| setting | kind | default | meaning |\n|---|---|---|---|\n{rows}"
        )
        .expect("writing to a String cannot fail");
    }
    page
}

fn row(setting: &Setting) -> String {
    let preset = match setting.preset {
        Preset::Is("") => "empty".to_owned(),
        Preset::Is(text) => format!("`{text}`"),
        Preset::Told(words) => words.to_owned(),
    };
    format!("| `{}` | {} | {preset} | {} |\n", setting.name, setting.kind.name(), setting.about)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Fails when the page and the table differ; `UPDATE=1` writes the page.
    #[test]
    #[expect(clippy::disallowed_methods, reason = "the switch of this test")]
    fn settings_page_is_current() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/settings.md");
        let want = settings_page();
        if std::env::var_os("UPDATE").is_some() {
            std::fs::write(path, &want).expect("docs/settings.md can be written");
        }
        let have = std::fs::read_to_string(path).expect("docs/settings.md is there");
        assert!(have == want, "docs/settings.md is old: UPDATE=1 cargo test --lib settings_page");
    }
}
