//! The page at `/`: one document without outside parts, that asks `/cluster`, `/status` and
//! `/history` each second.
//!
//! Its policy lets run what this file embeds, by its hash, and nothing else; its script puts in
//! everything as text. Where no script runs, a table of the moment stands in its place, escaped
//! here. Must not: hold a fact that a path does not show.

use super::board::Published;
use super::cluster::cluster;
use super::routes::Shared;
use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderName, HeaderValue, header};
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::fmt::Write;
use std::sync::{Arc, LazyLock};

const PAGE: &str = include_str!("page.html");
/// Where the table for those without scripts goes.
const BASICS: &str = "<!--basics-->";

/// `Content-Security-Policy`: the page's own style and script, and its own server.
static POLICY: LazyLock<HeaderValue> = LazyLock::new(|| {
    let (style, script) = (hash_of("style"), hash_of("script"));
    let policy = format!(
        "default-src 'none'; style-src '{style}'; script-src '{script}'; connect-src 'self'; \
         img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    );
    HeaderValue::from_str(&policy).expect("base64 and words are visible ASCII")
});

/// The hash of the text in the page's one element of this name.
fn hash_of(tag: &str) -> String {
    let inside = PAGE.split_once(&format!("<{tag}>")).map_or("", |(_, rest)| rest);
    let inside = inside.split_once(&format!("</{tag}>")).map_or("", |(text, _)| text);
    format!("sha256-{}", STANDARD.encode(Sha256::digest(inside)))
}

/// `GET /`.
pub(super) async fn page(State(shared): State<Arc<Shared>>) -> Response {
    let published = shared.parts.board.read();
    let now = (shared.parts.clock)();
    let text = PAGE.replacen(BASICS, &basics(&published, &cluster(&published, now)), 1);
    let fixed = |text| HeaderValue::from_static(text);
    let headers: [(HeaderName, HeaderValue); 5] = [
        (header::CONTENT_TYPE, fixed("text/html; charset=utf-8")),
        (header::CONTENT_SECURITY_POLICY, POLICY.clone()),
        (header::X_CONTENT_TYPE_OPTIONS, fixed("nosniff")),
        (header::REFERRER_POLICY, fixed("no-referrer")),
        (header::CACHE_CONTROL, fixed("no-store")),
    ];
    (headers, Body::from(text)).into_response()
}

fn basics(published: &Published, cluster: &Value) -> String {
    let word = |value: &Value| escaped(value.as_str().unwrap_or("-"));
    let mut text = format!(
        "<p>{}: {}</p><p>Last reason of {}: {}</p><table><tr><th>node<th>role<th>state\
         <th>application</tr>",
        word(&cluster["verdict"]["is"]),
        word(&cluster["verdict"]["text"]),
        escaped(published.node.as_str()),
        escaped(&published.reason.to_string()),
    );
    for row in cluster["members"].as_array().into_iter().flatten() {
        let [node, role, state, app] =
            ["node", "role", "state", "app"].map(|name| word(&row[name]));
        write!(text, "<tr><td>{node}<td>{role}<td>{state}<td>{app}</tr>")
            .expect("writing to a String cannot fail");
    }
    text + "</table>"
}

/// Text that stays text between tags and in quoted attributes.
fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            other => safe.push(other),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_stands_alone() {
        for outside in ["http://", "https://", "src=", "@import", "url(", "innerHTML", "onload"] {
            let found: Vec<_> = PAGE.lines().filter(|line| line.contains(outside)).collect();
            let own = |line: &&str| line.contains("www.w3.org/2000/svg");
            assert!(found.iter().all(own), "{outside}: {found:?}");
        }
        for once in ["<style>", "<script>", BASICS] {
            assert_eq!(PAGE.matches(once).count(), 1, "{once}");
        }
        // Attributes of style would need another policy than that of the hash.
        assert!(!PAGE.contains("style=\""));
    }

    #[test]
    fn the_policy_names_what_is_embedded() {
        let policy = POLICY.to_str().expect("ASCII");
        assert!(policy.starts_with("default-src 'none'; style-src 'sha256-"), "{policy}");
        let nothing = STANDARD.encode(Sha256::digest(""));
        assert!(!policy.contains(&nothing), "both elements were found: {policy}");
    }

    #[test]
    fn text_stays_text() {
        assert_eq!(escaped("<script>'\"&"), "&lt;script&gt;&#39;&quot;&amp;");
    }
}
