//! What people read and scripts rely on: transcripts of commands in `tests/cli`, run against the
//! real binary. `TRYCMD=overwrite cargo test --test cli` writes them again.

#[test]
fn transcripts() {
    trycmd::TestCases::new()
        .env("COLUMNS", "100")
        .env("LICTOR_NODE", "n1")
        .case("tests/cli/*.trycmd");
}
