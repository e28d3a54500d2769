//! The reply of FT.AGGREGATE and FT.CURSOR READ.
//!
//! ```text
//! [total, [name, value, ...], ...]     RESP3: {attributes, total_results, format, results, warning}
//! with a cursor: [that, cursor]
//! ```

use super::rows::OwnedRow;
use crate::expr::{ExprValue, number_text};
use crate::search::reply::Warnings;
use crate::search::{write_number, write_values};
use engramdb_engine::command::Reply;
use std::sync::Arc;
use std::time::Duration;

/// What a reply is written from.
pub struct AggregateAnswer {
    pub total: usize,
    /// The names of the rows' cells with their places.
    pub names: Arc<[(Vec<u8>, usize)]>,
    /// The place of the cell that explains a row's fused score.
    pub explanation: Option<usize>,
    pub rows: Vec<OwnedRow>,
    pub warnings: Warnings,
    /// Values are written with their types.
    pub expands: bool,
    /// The cursor, 0 if nothing is left; `None` if none was asked for.
    pub cursor: Option<u64>,
    /// Of FT.HYBRID: how long it took.
    pub seconds: Option<Duration>,
    /// Of FT.HYBRID: whether the text search and the vector search ran out of time.
    pub late: [bool; 2],
}

impl AggregateAnswer {
    pub fn write(&self, reply: &mut dyn Reply) {
        if self.cursor.is_some() {
            reply.array(2);
        }
        self.write_rows(reply);
        if let Some(cursor) = self.cursor {
            reply.integer(cursor as i64);
        }
    }

    /// Writes the reply without the cursor.
    pub fn write_rows(&self, reply: &mut dyn Reply) {
        if let Some(time) = self.seconds {
            return self.write_hybrid(reply, time);
        }
        if !reply.is_resp3() {
            reply.array(1 + self.rows.len());
            reply.integer(self.total as i64);
            for row in &self.rows {
                if reply.room() == 0 {
                    return reply.give_up();
                }
                self.write_row(reply, row);
            }
            return;
        }
        reply.map(5);
        reply.bulk(b"attributes");
        reply.array(0);
        reply.bulk(b"total_results");
        reply.integer(self.total as i64);
        reply.bulk(b"format");
        reply.bulk(if self.expands { b"EXPAND" } else { b"STRING" });
        reply.bulk(b"results");
        reply.array(self.rows.len());
        for row in &self.rows {
            if reply.room() == 0 {
                return reply.give_up();
            }
            reply.map(2);
            reply.bulk(b"extra_attributes");
            self.write_row(reply, row);
            reply.bulk(b"values");
            reply.array(0);
        }
        reply.bulk(b"warning");
        self.warnings.write(reply, None);
    }

    /// The reply of FT.HYBRID: a map in RESP3, the same as a list in RESP2.
    fn write_hybrid(&self, reply: &mut dyn Reply, time: Duration) {
        reply.map(4);
        self.write_hybrid_pairs(reply, time);
    }

    /// The reply of FT.PROFILE HYBRID without the profile, which follows; in RESP2 it has no name.
    pub fn write_before_profile(&self, reply: &mut dyn Reply) {
        if reply.is_resp3() {
            reply.map(5);
        } else {
            reply.array(9);
        }
        self.write_hybrid_pairs(reply, self.seconds.unwrap_or_default());
        if reply.is_resp3() {
            reply.bulk(b"Profile");
        }
    }

    fn write_hybrid_pairs(&self, reply: &mut dyn Reply, time: Duration) {
        reply.bulk(b"total_results");
        reply.integer(self.total as i64);
        reply.bulk(b"results");
        reply.array(self.rows.len());
        for row in &self.rows {
            if reply.room() == 0 {
                return reply.give_up();
            }
            self.write_row(reply, row);
        }
        reply.bulk(b"warnings");
        if self.late.contains(&true) {
            let texts = ["Timeout limit was reached (SEARCH)", "Timeout limit was reached (VSIM)"];
            let texts = texts.into_iter().zip(self.late).filter(|(_, is_late)| *is_late);
            reply.array(texts.clone().count());
            texts.for_each(|(text, _)| reply.bulk(text.as_bytes()));
        } else {
            self.warnings.write(reply, None);
        }
        reply.bulk(b"execution_time");
        reply.double(time.as_secs_f64() * 1e3);
    }

    fn write_row(&self, reply: &mut dyn Reply, row: &OwnedRow) {
        let cells = || {
            self.names.iter().filter_map(|(name, place)| Some((name, *place, row.cells[*place].as_ref()?)))
        };
        let is_cell =
            |name: &[u8]| cells().any(|(own, place, _)| own == name && self.explanation != Some(place));
        let whole = || row.whole.iter().filter(|(name, _)| !is_cell(name));
        reply.map(cells().count() + whole().count());
        for (name, place, value) in cells() {
            match value {
                ExprValue::List(pair) if self.explanation == Some(place) => write_explanation(reply, pair),
                _ => {
                    reply.bulk(name);
                    self.write_value(reply, value);
                }
            }
        }
        for (name, value) in whole() {
            reply.bulk(name);
            self.write_value(reply, value);
        }
    }

    fn write_value(&self, reply: &mut dyn Reply, value: &ExprValue<'_>) {
        match value {
            ExprValue::Null => reply.null(),
            ExprValue::Number(number) if self.expands => write_number(reply, *number),
            ExprValue::Number(number) => reply.bulk(number_text(*number).as_bytes()),
            ExprValue::Text(text) => reply.bulk(text),
            ExprValue::List(list) => {
                reply.array(list.len());
                list.iter().for_each(|value| match value {
                    ExprValue::Several(several) => reply.bulk(&several.shown.to_text()),
                    value => self.write_value(reply, value),
                });
            }
            ExprValue::Several(several) => match several.shown.text() {
                Some(text) if self.expands => write_values(reply, text),
                _ => self.write_value(reply, &several.shown),
            },
        }
    }
}

/// A pair of a row: its score with what explains it.
fn write_explanation(reply: &mut dyn Reply, pair: &[ExprValue<'static>]) {
    fn write(reply: &mut dyn Reply, value: &ExprValue<'_>) {
        match value {
            ExprValue::Number(number) => reply.double(*number),
            ExprValue::List(parts) => {
                reply.array(parts.len());
                parts.iter().for_each(|part| write(reply, part));
            }
            value => reply.simple(&String::from_utf8_lossy(&value.to_text())),
        }
    }
    reply.bulk(b"score");
    reply.array(pair.len());
    pair.iter().for_each(|part| write(reply, part));
}
