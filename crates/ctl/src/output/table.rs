//! Frames around rows.

use super::{Reply, rows};

/// Nothing if the answer is no table.
pub fn render(reply: &Reply) -> Option<Vec<u8>> {
    let (heading, rows) = match reply {
        Reply::MemberList(response) => rows::members(response),
        Reply::Health(endpoints) => rows::health(endpoints),
        Reply::Status(endpoints) => rows::statuses(endpoints),
        Reply::HashKv(endpoints) => rows::hashes(endpoints),
        Reply::Snapshot(status) => rows::snapshot(status),
        Reply::Backups(backups) => rows::backups(backups),
        _ => return None,
    };
    Some(frame(heading, &rows).into_bytes())
}

/// Headings stand in the middle, cells to the right.
fn frame(heading: &[&str], rows: &[Vec<String>]) -> String {
    let widths: Vec<usize> = heading
        .iter()
        .enumerate()
        .map(|(at, title)| rows.iter().map(|row| width(&row[at])).chain([width(title)]).max().unwrap_or_default() + 2)
        .collect();
    let rule = |left: &str, middle: &str, right: &str| {
        let segments: Vec<String> = widths.iter().map(|width| "─".repeat(*width)).collect();
        format!("{left}{}{right}\n", segments.join(middle))
    };
    let cells = |cells: Vec<String>| format!("│{}│\n", cells.join("│"));
    let mut text = rule("┌", "┬", "┐");
    text += &cells(heading.iter().zip(&widths).map(|(title, width)| centred(title, *width)).collect());
    if !rows.is_empty() {
        text += &rule("├", "┼", "┤");
    }
    for row in rows {
        text += &cells(row.iter().zip(&widths).map(|(cell, width)| to_the_right(cell, *width)).collect());
    }
    text + &rule("└", "┴", "┘")
}

fn width(text: &str) -> usize {
    text.chars().count()
}

fn centred(text: &str, room: usize) -> String {
    let spare = room - width(text);
    let left = (spare - 2) / 2 + 1;
    format!("{}{text}{}", " ".repeat(left), " ".repeat(spare - left))
}

fn to_the_right(text: &str, room: usize) -> String {
    format!("{}{text} ", " ".repeat(room - width(text) - 1))
}

#[cfg(test)]
mod tests {
    use super::super::Health;
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let health = Health { endpoint: "127.0.0.1:2379".into(), healthy: true, took: "2ms".into(), error: String::new() };
        let table = render(&Reply::Health(vec![health])).unwrap();
        let expected = "\
┌────────────────┬────────┬──────┬───────┐
│    ENDPOINT    │ HEALTH │ TOOK │ ERROR │
├────────────────┼────────┼──────┼───────┤
│ 127.0.0.1:2379 │   true │  2ms │       │
└────────────────┴────────┴──────┴───────┘
";
        assert_eq!(String::from_utf8(table).unwrap(), expected);
    }
}
