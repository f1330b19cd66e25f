//! What a dashboard is, and how it becomes the JSON that Grafana imports. The layout follows from the order of the panels.

use serde_json::{Value, json};

/// One dashboard: one file in `deploy/grafana`.
pub(crate) struct Dashboard {
    /// The name of the file, and the end of the identifier that Grafana links by.
    pub(crate) name: &'static str,
    pub(crate) title: &'static str,
    pub(crate) description: &'static str,
    /// The range that it opens with, as Grafana writes it.
    pub(crate) from: &'static str,
    /// Labels that the reader can choose by. Each is a variable of that name.
    pub(crate) variables: &'static [Variable],
    pub(crate) rows: &'static [Row],
}

/// A label to choose by, and the metric whose values of it are offered.
#[derive(Clone, Copy)]
pub(crate) struct Variable {
    pub(crate) label: &'static str,
    pub(crate) metric: &'static str,
}

/// A heading and what is below it.
pub(crate) struct Row {
    pub(crate) title: &'static str,
    pub(crate) panels: &'static [Panel],
}

pub(crate) struct Panel {
    pub(crate) title: &'static str,
    /// What it means and what to do about it.
    pub(crate) description: &'static str,
    pub(crate) kind: Kind,
    pub(crate) unit: Unit,
    pub(crate) queries: &'static [Query],
    /// Where it becomes orange, and red. Green below; the other way round if the first is above the second.
    pub(crate) limits: Option<(f64, f64)>,
    /// `deploy/runbooks/NAME.md`.
    pub(crate) runbook: Option<&'static str>,
    pub(crate) shows: Shows,
}

/// An expression of PromQL and what its series are called. In the expression `@i` stands for the matcher of the instance, `@l` for
/// those of instance and listener, `@c` of instance and cluster, `@t` of instance and tenant.
pub(crate) struct Query {
    pub(crate) expression: &'static str,
    pub(crate) legend: &'static str,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// One number, or one for each series.
    Number,
    /// Lines over time.
    Lines,
    /// One line of a table for each series, as it is now, and its value.
    Table,
    /// Buckets of a histogram over time, by colour.
    Heatmap,
}

#[derive(Clone, Copy)]
pub(crate) enum Unit {
    Count,
    PerSecond,
    Seconds,
    /// From 0 to 1.
    Ratio,
    Bytes,
}

/// When there is something to see.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shows {
    /// As soon as a gateway has had traffic: on the demo.
    Always,
    /// If what it is about is configured, or has happened.
    If(&'static str),
}

impl Panel {
    pub(crate) const fn new(title: &'static str, kind: Kind, unit: Unit, queries: &'static [Query]) -> Panel {
        Panel {
            title,
            description: "",
            kind,
            unit,
            queries,
            limits: None,
            runbook: None,
            shows: Shows::Always,
        }
    }

    pub(crate) const fn about(mut self, description: &'static str) -> Panel {
        self.description = description;
        self
    }

    pub(crate) const fn limits(mut self, orange: f64, red: f64) -> Panel {
        self.limits = Some((orange, red));
        self
    }

    pub(crate) const fn runbook(mut self, name: &'static str) -> Panel {
        self.runbook = Some(name);
        self
    }

    pub(crate) const fn only_if(mut self, what: &'static str) -> Panel {
        self.shows = Shows::If(what);
        self
    }

    /// At this place of the grid, with this number.
    fn json(&self, number: usize, x: usize, y: usize) -> Value {
        let kind = match self.kind {
            Kind::Number => "stat",
            Kind::Lines => "timeseries",
            Kind::Table => "table",
            Kind::Heatmap => "heatmap",
        };
        let targets: Vec<Value> = self.queries.iter().zip('A'..).map(|(query, letter)| {
            json!({
                "refId": letter.to_string(),
                "datasource": DATASOURCE.clone(),
                "expr": query.promql(),
                "legendFormat": query.legend,
                "format": match self.kind { Kind::Table => "table", Kind::Heatmap => "heatmap", _ => "time_series" },
                "instant": self.kind == Kind::Table,
                "range": self.kind != Kind::Table,
            })
        }).collect();
        let mut panel = json!({
            "id": number,
            "type": kind,
            "title": self.title,
            "description": self.explained(),
            "datasource": DATASOURCE.clone(),
            "gridPos": { "x": x, "y": y, "w": self.width(), "h": HEIGHT },
            "fieldConfig": { "defaults": self.field_defaults(), "overrides": [] },
            "options": self.options(),
            "targets": targets,
        });
        if self.kind == Kind::Table {
            let hidden = json!({ "Time": true, "__name__": true, "job": true });
            panel["transformations"] = json!([{ "id": "organize", "options": { "excludeByName": hidden } }]);
        }
        panel
    }

    fn field_defaults(&self) -> Value {
        let mut defaults = json!({ "unit": self.unit.id() });
        if let Unit::Ratio = self.unit {
            defaults["min"] = json!(0);
        }
        if let Some((orange, red)) = self.limits {
            let step = |colour: &str, from: Option<f64>| json!({ "color": colour, "value": from });
            let steps = if orange < red {
                [step("green", None), step("orange", Some(orange)), step("red", Some(red))]
            } else {
                [step("red", None), step("orange", Some(red)), step("green", Some(orange))]
            };
            defaults["thresholds"] = json!({ "mode": "absolute", "steps": steps });
            if self.kind == Kind::Lines {
                defaults["custom"] = json!({ "thresholdsStyle": { "mode": "dashed" } });
            }
        }
        defaults
    }

    fn options(&self) -> Value {
        match self.kind {
            Kind::Number => json!({ "reduceOptions": { "calcs": ["lastNotNull"] } }),
            Kind::Lines => {
                json!({ "legend": { "displayMode": "list" }, "tooltip": { "mode": "multi", "sort": "desc" } })
            }
            Kind::Table => json!({ "showHeader": true }),
            Kind::Heatmap => json!({ "calculate": false, "yAxis": { "unit": self.unit.id() } }),
        }
    }

    fn width(&self) -> usize {
        if self.kind == Kind::Number { COLUMNS / 4 } else { COLUMNS / 2 }
    }

    /// What is shown when the reader asks what the panel means.
    fn explained(&self) -> String {
        let mut parts = vec![self.description.to_owned()];
        if let Shows::If(what) = self.shows {
            parts.push(format!("Empty unless {what}."));
        }
        if let Some(runbook) = self.runbook {
            parts.push(format!("Runbook: deploy/runbooks/{runbook}.md"));
        }
        parts.retain(|part| !part.is_empty());
        parts.join("\n\n")
    }
}

impl Query {
    /// As Grafana sends it, but for its variables.
    pub(crate) fn promql(&self) -> String {
        let mut text = self.expression.to_owned();
        for (short, labels) in MATCHERS {
            let matchers: Vec<String> = labels.iter().map(|label| format!("{label}=~\"${label}\"")).collect();
            text = text.replace(short, &matchers.join(", "));
        }
        text
    }
}

impl Unit {
    /// As Grafana calls it.
    fn id(self) -> &'static str {
        match self {
            Unit::Count => "short",
            Unit::PerSecond => "cps",
            Unit::Seconds => "s",
            Unit::Ratio => "percentunit",
            Unit::Bytes => "bytes",
        }
    }
}

impl Dashboard {
    /// The file.
    pub(crate) fn text(&self) -> String {
        let mut text = serde_json::to_string_pretty(&self.json()).expect("JSON");
        text.push('\n');
        text
    }

    pub(crate) fn panels(&self) -> impl Iterator<Item = &'static Panel> {
        self.rows.iter().flat_map(|row| row.panels)
    }

    fn json(&self) -> Value {
        json!({
            "uid": format!("ringward-{}", self.name),
            "title": self.title,
            "description": self.description,
            "tags": ["ringward"],
            "editable": true,
            "schemaVersion": 39,
            "refresh": "30s",
            "time": { "from": self.from, "to": "now" },
            "timezone": "browser",
            "links": [{
                "type": "dashboards", "title": "Ringward", "tags": ["ringward"], "asDropdown": true,
                "includeVars": true, "keepTime": true,
            }],
            "templating": { "list": self.templating() },
            "panels": self.layout(),
        })
    }

    fn templating(&self) -> Vec<Value> {
        let datasource = json!({
            "name": "datasource", "type": "datasource", "query": "prometheus", "label": "Prometheus",
        });
        let variables = self.variables.iter().map(|Variable { label, metric }| {
            let query = format!("label_values({metric}, {label})");
            json!({
                "name": label, "label": label, "type": "query", "datasource": DATASOURCE.clone(),
                "query": { "query": query, "refId": label }, "definition": query,
                "includeAll": true, "allValue": ANY, "multi": true, "refresh": 2, "sort": 1,
                "current": { "text": "All", "value": "$__all" },
            })
        });
        std::iter::once(datasource).chain(variables).collect()
    }

    /// Rows from top to bottom, their panels from left to right.
    fn layout(&self) -> Vec<Value> {
        let (mut panels, mut y) = (Vec::new(), 0);
        for row in self.rows {
            panels.push(json!({
                "id": panels.len() + 1, "type": "row", "title": row.title, "collapsed": false, "panels": [],
                "gridPos": { "x": 0, "y": y, "w": COLUMNS, "h": 1 },
            }));
            y += 1;
            let mut x = 0;
            for panel in row.panels {
                if x + panel.width() > COLUMNS {
                    (x, y) = (0, y + HEIGHT);
                }
                panels.push(panel.json(panels.len() + 1, x, y));
                x += panel.width();
            }
            y += HEIGHT;
        }
        panels
    }
}

/// What a variable stands for when all are chosen. Not `.*`, which would also let series through that lack the label.
pub(crate) const ANY: &str = ".+";

const MATCHERS: [(&str, &[&str]); 4] = [
    ("@i", &["instance"]),
    ("@l", &["instance", "listener"]),
    ("@c", &["instance", "cluster"]),
    ("@t", &["instance", "tenant"]),
];

static DATASOURCE: std::sync::LazyLock<Value> =
    std::sync::LazyLock::new(|| json!({ "type": "prometheus", "uid": "${datasource}" }));

/// Of Grafana's grid.
const COLUMNS: usize = 24;
const HEIGHT: usize = 8;
