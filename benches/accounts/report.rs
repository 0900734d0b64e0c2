//! The one table, line by line as things are measured.

use crate::meter::Cost;

/// What was measured.
#[derive(Default)]
pub(crate) struct Table(Vec<Row>);

/// One line.
#[derive(Clone, Debug, Default)]
pub(crate) struct Row {
    pub what: String,
    pub figure: String,
    /// What the ratio compares it with.
    pub beside: String,
    pub ratio: Option<f64>,
    pub aim: Option<Aim>,
    pub cost: Option<Cost>,
}

/// Where a ratio should be.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Aim {
    /// So far from 1 at most.
    Within(f64),
    AtMost(f64),
}

impl Aim {
    fn is_reached(self, ratio: f64) -> bool {
        match self {
            Aim::Within(distance) => (ratio - 1.0).abs() <= distance,
            Aim::AtMost(most) => ratio <= most,
        }
    }

    fn text(self) -> String {
        match self {
            Aim::Within(distance) => format!("1 ± {distance}"),
            Aim::AtMost(most) => format!("≤ {most}"),
        }
    }
}

impl Row {
    pub(crate) fn new(what: impl Into<String>, figure: impl Into<String>) -> Self {
        Self {
            what: what.into(),
            figure: figure.into(),
            ..Self::default()
        }
    }

    pub(crate) fn beside(self, what: impl Into<String>, ratio: f64) -> Self {
        Self {
            beside: what.into(),
            ratio: Some(ratio),
            ..self
        }
    }

    pub(crate) fn with_aim(self, aim: Aim) -> Self {
        Self {
            aim: Some(aim),
            ..self
        }
    }

    pub(crate) fn with_cost(self, cost: Cost) -> Self {
        Self {
            cost: Some(cost),
            ..self
        }
    }

    fn is_missed(&self) -> bool {
        self.aim
            .zip(self.ratio)
            .is_some_and(|(aim, ratio)| !aim.is_reached(ratio))
    }

    fn line(&self) -> String {
        let aim = match self.aim {
            Some(aim) if self.is_missed() => format!("{}: **missed**", aim.text()),
            Some(aim) => aim.text(),
            None => String::new(),
        };
        let micros =
            |time: fn(&Cost) -> f64| self.cost.as_ref().map(|cost| format!("{:.0}", time(cost)));
        let statements = self
            .cost
            .and_then(|cost| cost.statements)
            .map(|count| format!("{count:.1}"));
        let cells = [
            self.what.clone(),
            self.figure.clone(),
            self.beside.clone(),
            self.ratio
                .map(|ratio| format!("{ratio:.3}"))
                .unwrap_or_default(),
            aim,
            micros(|cost| cost.service).unwrap_or_default(),
            micros(|cost| cost.postgres).unwrap_or_default(),
            statements.unwrap_or_default(),
        ];
        format!("| {} |", cells.join(" | "))
    }
}

impl Table {
    pub(crate) fn add(&mut self, row: Row) {
        if self.0.is_empty() {
            println!(
                "| what | figure | beside | ratio | aim | service µs | Postgres µs | statements |"
            );
            println!("|---|---|---|---|---|---|---|---|");
        }
        println!("{}", row.line());
        self.0.push(row);
    }

    /// Whether an aim was missed.
    pub(crate) fn missed(&self) -> bool {
        self.0.iter().any(Row::is_missed)
    }
}
