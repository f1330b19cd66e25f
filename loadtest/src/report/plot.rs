//! Plots as SVG: lines over one axis, with a legend. Colours come from the page's style, by class.

use std::fmt::Write;

use crate::plain::escaped;

/// A plot of lines.
pub(super) struct Plot<'a> {
    /// For those who cannot see it.
    pub(super) title: &'a str,
    /// What the axes show, with units.
    pub(super) x_name: &'a str,
    pub(super) y_name: &'a str,
    pub(super) x: Axis,
    /// Else the y axis begins at 0 and is linear.
    pub(super) y_is_logarithmic: bool,
    pub(super) lines: Vec<Line>,
}

/// The x axis.
pub(super) struct Axis {
    pub(super) from: f64,
    pub(super) to: f64,
    /// Where there are marks, and what they say.
    pub(super) marks: Vec<(f64, String)>,
}

/// A line of a plot.
pub(super) struct Line {
    pub(super) name: String,
    /// Chooses the colour.
    pub(super) class: &'static str,
    /// Where there is nothing to show, the line has a gap.
    pub(super) points: Vec<(f64, Option<f64>)>,
}

impl Axis {
    /// Seconds, with marks at round ones.
    pub(super) fn of_seconds(from: f64, to: f64) -> Axis {
        let to = to.max(from + 1.0);
        let steps = [1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1200.0, 1800.0];
        let longer = std::iter::successors(Some(3600.0), |step| Some(step * 2.0));
        // Few marks, however long it is; with no more than a double has powers of two.
        let mut steps = steps.into_iter().chain(longer.take(1024));
        let step = steps.find(|step| (to - from) / step <= 10.0).unwrap_or(to - from);
        let first = (from / step).ceil() as i64;
        let last = (to / step).floor() as i64;
        let marks = (first..=last).map(|index| index as f64 * step);
        Axis { from, to, marks: marks.map(|mark| (mark, format!("{mark:.0}"))).collect() }
    }

    /// Quantiles by their nines: 90 % is 1, 99 % is 2.
    pub(super) fn of_nines(nines: f64) -> Axis {
        let last = nines.ceil().max(1.0) as usize;
        let mark = |index: usize| {
            let text = match index {
                0 => "0 %".to_owned(),
                1 => "90 %".to_owned(),
                2 => "99 %".to_owned(),
                _ => format!("99.{} %", "9".repeat(index - 2)),
            };
            (index as f64, text)
        };
        Axis { from: 0.0, to: last as f64, marks: (0..=last).map(mark).collect() }
    }
}

impl Plot<'_> {
    /// The plot, or a word where there is nothing to show.
    pub(super) fn to_svg(&self) -> String {
        let values = || self.lines.iter().flat_map(|line| line.points.iter().filter_map(|(_, y)| *y));
        let greatest = values().fold(0.0, f64::max);
        if values().next().is_none() {
            return "<p class=\"nothing\">Nothing to show.</p>\n".to_owned();
        }
        let scale = match self.y_is_logarithmic {
            true => {
                let least = values().filter(|value| *value > 0.0).fold(f64::INFINITY, f64::min);
                Scale::logarithmic(if least.is_finite() { least } else { 1.0 }, greatest)
            }
            false => Scale::linear(greatest),
        };
        let mut svg = String::new();
        // Writing to a String cannot fail.
        let _ = self.write(&mut svg, &scale);
        svg
    }

    fn write(&self, svg: &mut String, scale: &Scale) -> std::fmt::Result {
        writeln!(
            svg,
            "<svg class=\"plot\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{}\">",
            escaped(self.title)
        )?;
        let (left, right, top, bottom) = (LEFT, WIDTH - RIGHT, TOP, HEIGHT - BOTTOM);
        for (value, text) in &scale.marks {
            let y = scale.y(*value);
            writeln!(svg, "<line class=\"grid\" x1=\"{left}\" x2=\"{right}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>")?;
            writeln!(
                svg,
                "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
                left - 8.0,
                y + 4.0,
                escaped(text)
            )?;
        }
        for (value, text) in &self.x.marks {
            let x = self.x(*value);
            writeln!(svg, "<line class=\"grid\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{top}\" y2=\"{bottom}\"/>")?;
            writeln!(
                svg,
                "<text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
                bottom + 18.0,
                escaped(text)
            )?;
        }
        let middle = (left + right) / 2.0;
        writeln!(
            svg,
            "<text class=\"name\" x=\"{middle:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
            bottom + 38.0,
            escaped(self.x_name)
        )?;
        writeln!(svg, "<text class=\"name\" x=\"8\" y=\"16\">{}</text>", escaped(self.y_name))?;
        for line in &self.lines {
            writeln!(svg, "<path class=\"line {}\" d=\"{}\"/>", line.class, self.path(line, scale))?;
        }
        self.write_legend(svg)?;
        writeln!(svg, "</svg>")
    }

    /// From the right to the left, above the plot.
    fn write_legend(&self, svg: &mut String) -> std::fmt::Result {
        let mut x = WIDTH - RIGHT;
        for line in self.lines.iter().rev() {
            x -= line.name.chars().count() as f64 * CHARACTER;
            writeln!(svg, "<text x=\"{x:.1}\" y=\"16\">{}</text>", escaped(&line.name))?;
            x -= 26.0;
            writeln!(svg, "<path class=\"line {}\" d=\"M{x:.1},12h20\"/>", line.class)?;
            x -= 18.0;
        }
        Ok(())
    }

    fn x(&self, value: f64) -> f64 {
        LEFT + (value - self.x.from) / (self.x.to - self.x.from) * (WIDTH - RIGHT - LEFT)
    }

    fn path(&self, line: &Line, scale: &Scale) -> String {
        let mut path = String::new();
        let mut pen_is_down = false;
        let is_shown = |index: usize| line.points.get(index).is_some_and(|(_, y)| y.is_some());
        for (index, (x, y)) in line.points.iter().enumerate() {
            let Some(y) = y else {
                pen_is_down = false;
                continue;
            };
            let command = if pen_is_down { 'L' } else { 'M' };
            let _ = write!(path, "{command}{:.1},{:.1}", self.x(*x), scale.y(*y));
            // A point between two gaps would not be seen.
            if !pen_is_down && !is_shown(index + 1) {
                path.push_str("h2");
            }
            pen_is_down = true;
        }
        path
    }
}

/// The y axis.
struct Scale {
    from: f64,
    to: f64,
    is_logarithmic: bool,
    marks: Vec<(f64, String)>,
}

impl Scale {
    fn linear(greatest: f64) -> Scale {
        let greatest = if greatest > 0.0 { greatest } else { 1.0 };
        let magnitude = 10f64.powf((greatest / 5.0).log10().floor());
        let steps = [1.0, 2.0, 2.5, 5.0, 10.0].map(|step| step * magnitude);
        let step = steps.into_iter().find(|step| greatest / step <= 5.0).unwrap_or(10.0 * magnitude);
        let last = (greatest / step).ceil();
        let digits = if step < 1.0 { (-step.log10().floor()) as usize } else { usize::from(step == 2.5) };
        let marks = (0..=last as usize).map(|index| {
            let value = index as f64 * step;
            (value, grouped(value, digits))
        });
        Scale { from: 0.0, to: last * step, is_logarithmic: false, marks: marks.collect() }
    }

    /// Of times in microseconds.
    fn logarithmic(least: f64, greatest: f64) -> Scale {
        let from = least.log10().floor();
        let to = greatest.log10().ceil().max(from + 1.0);
        let decades = from as i32..=to as i32;
        // In a plot that spans little there is room for more.
        let steps: &[f64] = if to - from <= 2.0 { &[1.0, 2.0, 5.0] } else { &[1.0] };
        let marks = decades.flat_map(|decade| steps.iter().map(move |step| step * 10f64.powi(decade)));
        let marks = marks.filter(|value| *value <= 10f64.powf(to) * 1.001);
        Scale {
            from: 10f64.powf(from),
            to: 10f64.powf(to),
            is_logarithmic: true,
            marks: marks.map(|value| (value, short_time(value))).collect(),
        }
    }

    fn y(&self, value: f64) -> f64 {
        let share = match self.is_logarithmic {
            true => (value.max(self.from) / self.from).ln() / (self.to / self.from).ln(),
            false => (value - self.from) / (self.to - self.from),
        };
        HEIGHT - BOTTOM - share * (HEIGHT - BOTTOM - TOP)
    }
}

/// With thin spaces between thousands.
pub(super) fn grouped(value: f64, digits: usize) -> String {
    let text = format!("{value:.digits$}");
    let (whole, fraction) = text.split_once('.').unwrap_or((&text, ""));
    let mut grouped = String::new();
    for (index, digit) in whole.chars().enumerate() {
        if index > 0 && (whole.len() - index).is_multiple_of(3) && whole.as_bytes()[index - 1] != b'-' {
            grouped.push('\u{2009}');
        }
        grouped.push(digit);
    }
    if fraction.is_empty() { grouped } else { format!("{grouped}.{fraction}") }
}

fn short_time(us: f64) -> String {
    let (value, unit) = match us {
        ..999.0 => (us, "µs"),
        ..999_000.0 => (us / 1e3, "ms"),
        _ => (us / 1e6, "s"),
    };
    format!("{} {unit}", (value * 1000.0).round() / 1000.0)
}

/// In the units of the plot.
const WIDTH: f64 = 960.0;
const HEIGHT: f64 = 300.0;
const LEFT: f64 = 72.0;
const RIGHT: f64 = 28.0;
const TOP: f64 = 30.0;
const BOTTOM: f64 = 46.0;
/// How wide one is, about, in the legend.
const CHARACTER: f64 = 6.7;

#[cfg(test)]
mod tests {
    use super::*;

    fn plot(points: Vec<(f64, Option<f64>)>, y_is_logarithmic: bool) -> String {
        Plot {
            title: "A & B",
            x_name: "s",
            y_name: "<y>",
            x: Axis::of_seconds(0.0, 10.0),
            y_is_logarithmic,
            lines: vec![Line { name: "\"one\"".to_owned(), class: "a", points }],
        }
        .to_svg()
    }

    #[test]
    fn gaps_stay_gaps() {
        let svg =
            plot(vec![(0.0, Some(1.0)), (1.0, Some(2.0)), (2.0, None), (3.0, Some(4.0)), (4.0, None)], false);
        let path = svg.lines().find(|line| line.starts_with("<path")).unwrap();
        assert_eq!(
            (path.matches('M').count(), path.matches('L').count(), path.matches("h2").count()),
            (2, 1, 1),
            "{path}"
        );
        assert!(plot(vec![(0.0, None)], false).contains("Nothing to show"));
    }

    #[test]
    fn all_is_within_the_plot() {
        for greatest in [0.0, 0.001, 0.7, 1.0, 3.0, 99.0, 100.0, 12_345.0, 1e9] {
            for y_is_logarithmic in [false, true] {
                let svg = plot(vec![(0.0, Some(greatest / 3.0)), (10.0, Some(greatest))], y_is_logarithmic);
                let path = svg.lines().find(|line| line.starts_with("<path")).unwrap();
                let numbers = path.split('"').nth(3).unwrap().split(['M', 'L', ',']).skip(1);
                let numbers: Vec<f64> = numbers.map(|number| number.parse().unwrap()).collect();
                assert!(
                    numbers.chunks(2).all(|point| (LEFT..=WIDTH - RIGHT).contains(&point[0])
                        && (TOP - 0.1..=HEIGHT - BOTTOM + 0.1).contains(&point[1])),
                    "{greatest}: {path}"
                );
            }
        }
    }

    #[test]
    fn names_are_escaped() {
        let svg = plot(vec![(0.0, Some(1.0))], false);
        assert!(
            svg.contains("aria-label=\"A &amp; B\"")
                && svg.contains("&lt;y&gt;")
                && svg.contains("&quot;one&quot;")
        );
    }

    #[test]
    fn marks_are_round() {
        let linear =
            |greatest| Scale::linear(greatest).marks.into_iter().map(|(_, text)| text).collect::<Vec<_>>();
        assert_eq!(
            linear(9700.0),
            ["0", "2\u{2009}000", "4\u{2009}000", "6\u{2009}000", "8\u{2009}000", "10\u{2009}000"]
        );
        assert_eq!(linear(1.0), ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]);
        let log = |least, greatest| {
            Scale::logarithmic(least, greatest).marks.into_iter().map(|(_, text)| text).collect::<Vec<_>>()
        };
        assert_eq!(log(300.0, 90_000.0), ["100 µs", "1 ms", "10 ms", "100 ms"]);
        assert_eq!(log(300.0, 900.0), ["100 µs", "200 µs", "500 µs", "1 ms"]);
        let seconds =
            |from, to| Axis::of_seconds(from, to).marks.into_iter().map(|(mark, _)| mark).collect::<Vec<_>>();
        assert_eq!(seconds(-0.4, 4.2), [0.0, 1.0, 2.0, 3.0, 4.0]);
        assert_eq!(seconds(0.0, 3600.0), [0.0, 600.0, 1200.0, 1800.0, 2400.0, 3000.0, 3600.0]);
        for to in [1e5, 1e9, 1e300] {
            assert!((2..=12).contains(&seconds(-1e9, to).len()), "{to}");
        }
        let nines: Vec<_> = Axis::of_nines(4.0).marks.into_iter().map(|(_, text)| text).collect();
        assert_eq!(nines, ["0 %", "90 %", "99 %", "99.9 %", "99.99 %"]);
    }
}
