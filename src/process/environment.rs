//! What children get to see of our environment.
//!
//! The invariant: nobody below us ever inherits the Consul token. With it the application could
//! write the lock.

use std::ffi::OsString;

pub type Pairs = Vec<(OsString, OsString)>;

/// The application's environment in a cluster: ours less every `CONSUL_*` name, lictor's own tokens
/// and the names given.
pub fn of_application(
    own: impl IntoIterator<Item = (OsString, OsString)>,
    secret: &[String],
) -> Pairs {
    own.into_iter().filter(|(name, _)| !hidden_from_application(name, secret)).collect()
}

/// A hook's environment: the application's less every secret, and without old `LICTOR_*` facts.
pub fn of_hook(application: &Pairs, secret: &[String]) -> Pairs {
    let keep = |name: &OsString| {
        let text = name.to_string_lossy();
        !hidden_from_application(name, secret) && !text.starts_with("LICTOR_") && !is_secret(&text)
    };
    application.iter().filter(|(name, _)| keep(name)).cloned().collect()
}

fn hidden_from_application(name: &OsString, secret: &[String]) -> bool {
    let name = name.to_string_lossy();
    name.starts_with("CONSUL_")
        || (name.starts_with("LICTOR_") && is_secret(&name))
        || secret.iter().any(|secret| *secret == name)
}

/// By its name. `.._FILE` names a file: its place is no secret.
fn is_secret(name: &str) -> bool {
    const WORDS: [&str; 5] = ["TOKEN", "SECRET", "PASSWORD", "PASSWD", "CREDENTIAL"];
    let name = name.to_ascii_uppercase();
    !name.ends_with("_FILE") && WORDS.iter().any(|word| name.contains(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(names: &[&str]) -> Pairs {
        names.iter().map(|name| (OsString::from(name), OsString::from("x"))).collect()
    }

    fn names(pairs: &Pairs) -> Vec<String> {
        pairs.iter().map(|(name, _)| name.to_string_lossy().into_owned()).collect()
    }

    #[test]
    fn the_consul_token_reaches_nobody_and_secrets_no_hook() {
        let own = pairs(&[
            "PATH",
            "CONSUL_HTTP_TOKEN",
            "CONSUL_HTTP_ADDR",
            "LICTOR_TOKEN",
            "LICTOR_CLUSTER",
            "MYSQL_ROOT_PASSWORD",
            "MYSQL_ROOT_PASSWORD_FILE",
            "API_KEY",
        ]);
        let secret = ["API_KEY".to_owned()];
        let application = of_application(own, &secret);
        let expected =
            ["PATH", "LICTOR_CLUSTER", "MYSQL_ROOT_PASSWORD", "MYSQL_ROOT_PASSWORD_FILE"];
        assert_eq!(names(&application), expected);
        let hook = of_hook(&application, &secret);
        assert_eq!(names(&hook), ["PATH", "MYSQL_ROOT_PASSWORD_FILE"]);
    }
}
