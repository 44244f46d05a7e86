//! Requests and their results as the journal, `status` and `GET /requests/<id>` show them.

use super::super::Node;
use super::Asked;
use crate::decide::io::Outbox;
use crate::decide::reason::Reason;
use crate::decide::records::{RequestStatus, ResultValue};
use serde_json::{Map, Value, json};

impl Node {
    /// What was asked for lately, by its id, with what became of it.
    pub(crate) fn requests_json(&self) -> Value {
        let row = |(id, asked): (&String, &Asked)| {
            let result = self.desk.results.get(id).map(|known| &known.value);
            let asked = asked.value.as_ref();
            let row = json!({
                "id": id,
                "verb": asked.map(|asked| &asked.verb),
                "args": asked.map(|asked| &asked.args),
                "by": asked.map(|asked| &asked.by),
                "status": result.map(|result| result.status),
                "to": result.and_then(|result| result.to.as_ref()),
                "reason": result.map(|result| &result.reason),
                "at": result.map(|result| result.at),
            });
            (id.clone(), row)
        };
        self.desk.requests.iter().map(row).collect::<Map<_, _>>().into()
    }

    pub(super) fn tell_result(&mut self, id: &str, value: &ResultValue, out: &mut Outbox) {
        let asked = self.desk.requests.get(id).and_then(|asked| asked.value.as_ref());
        let (verb, by) = asked.map_or(("?", "?"), |asked| (&asked.verb, &asked.by));
        let text = format!("{verb}, asked by {by}: {}", value.reason);
        let code = match value.status {
            RequestStatus::Started => "request.started",
            RequestStatus::Done => "request.done",
            RequestStatus::Refused => "request.refused",
            RequestStatus::Failed => "request.failed",
        };
        self.decided(Reason::new(code, text), out);
    }
}
