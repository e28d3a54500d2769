//! Charts as SVG: lines over two axes, and groups of bars. The legend is beside the plot, never over it.

use std::ops::Range;

use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use self::axis::{Scale, Ticks};

mod axis;

/// A chart in one frame.
pub struct Chart {
    pub title: String,
    pub y_label: String,
    pub y_log: bool,
    pub content: ChartContent,
}

pub enum ChartContent {
    /// Each series is a line through points (x, y), in their order.
    Lines { x_label: String, x_log: bool, series: Vec<(String, Vec<(f64, f64)>)> },
    /// Groups of bars: each series has a height for each category, or `None` if it is not known.
    Bars { categories: Vec<String>, series: Vec<(String, Vec<Option<f64>>)> },
}

impl ChartContent {
    fn names(&self) -> Vec<&str> {
        match self {
            ChartContent::Lines { series, .. } => series.iter().map(|(name, _)| name.as_str()).collect(),
            ChartContent::Bars { series, .. } => series.iter().map(|(name, _)| name.as_str()).collect(),
        }
    }

    fn heights(&self) -> Vec<f64> {
        let all: Vec<f64> = match self {
            ChartContent::Lines { series, .. } => {
                series.iter().flat_map(|(_, points)| points.iter().map(|&(_, y)| y)).collect()
            }
            ChartContent::Bars { series, .. } => {
                series.iter().flat_map(|(_, heights)| heights.iter().flatten().copied()).collect()
            }
        };
        all.into_iter().filter(|height| height.is_finite()).collect()
    }
}

/// Sizes in pixels.
const FRAME_HEIGHT: i32 = 440;
const PLOT_WIDTH: i32 = 640;
const MARGIN: i32 = 14;
const TITLE_HEIGHT: i32 = 30;
/// The width from the frame's left to the plot: the description and the labels of the y axis.
const LEFT: i32 = 100;
const SWATCH: i32 = 22;
const LEGEND_LINE: i32 = 20;
const BAR_WIDTH_MIN: i32 = 9;
const TEXT_SIZE: i32 = 14;
/// Width of a sans-serif character relative to its size, rather too wide than too narrow.
const CHARACTER: f64 = 0.47;

/// Colours with enough contrast on white that most colour-blind readers can distinguish (after Okabe and Ito,
/// without their yellow).
const COLORS: [RGBColor; 8] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(230, 159, 0),
    RGBColor(86, 180, 233),
    RGBColor(110, 80, 160),
    RGBColor(90, 90, 90),
];

type Area<'a> = DrawingArea<SVGBackend<'a>, plotters::coord::Shift>;
type Drawn = Result<(), Box<dyn std::error::Error>>;

/// The charts, one below another, as the text of an SVG file.
pub fn svg(charts: &[Chart]) -> Result<String, String> {
    let frames: Vec<Frame> = charts.iter().map(Frame::new).collect();
    let width = frames.iter().map(|frame| frame.width).max().unwrap_or(LEFT);
    let height: i32 = frames.iter().map(|frame| frame.height).sum();
    let mut text = String::new();
    {
        let size = (width.unsigned_abs(), height.max(1).unsigned_abs());
        let area = SVGBackend::with_string(&mut text, size).into_drawing_area();
        let draw = || -> Drawn {
            area.fill(&WHITE)?;
            let mut top = 0;
            for frame in &frames {
                frame.draw(&area, top)?;
                top += frame.height;
            }
            Ok(area.present()?)
        };
        draw().map_err(|error| error.to_string())?;
    }
    Ok(text)
}

/// A chart with its position and its axes.
struct Frame<'c> {
    chart: &'c Chart,
    width: i32,
    height: i32,
    /// The rectangle of the plot; `y` counts from the top of the frame.
    x: Range<i32>,
    y: Range<i32>,
    /// Labels of categories are rotated by 90 degrees if they would overlap.
    is_upright: bool,
    y_ticks: Ticks,
    /// None for bars.
    x_ticks: Option<Ticks>,
}

impl<'c> Frame<'c> {
    fn new(chart: &'c Chart) -> Self {
        let (mut plot_width, mut bottom, mut is_upright) = (PLOT_WIDTH, 48, false);
        let mut x_ticks = None;
        match &chart.content {
            ChartContent::Lines { x_log, series, .. } => {
                let values = series.iter().flat_map(|(_, points)| points.iter().map(|&(x, _)| x));
                x_ticks = Some(Ticks::around(values.filter(|x| x.is_finite()), scale(*x_log, false)));
            }
            ChartContent::Bars { categories, series } => {
                let group = (series.len() as i32 + 1) * BAR_WIDTH_MIN;
                plot_width = plot_width.max(group * categories.len() as i32);
                let widest = categories.iter().map(|name| text_width(name)).max().unwrap_or(0);
                is_upright = (widest + TEXT_SIZE) * categories.len() as i32 > plot_width;
                bottom = if is_upright { widest + 24 } else { 32 };
            }
        }
        let bars_from_zero = matches!(chart.content, ChartContent::Bars { .. });
        let y_ticks = Ticks::around(chart.content.heights().into_iter(), scale(chart.y_log, bars_from_zero));
        let names = chart.content.names();
        let legend = names.iter().map(|name| text_width(name)).max().unwrap_or(0) + SWATCH + 10;
        let x = LEFT..LEFT + plot_width;
        let legend_height = MARGIN + TITLE_HEIGHT + LEGEND_LINE * names.len() as i32 + MARGIN;
        Self {
            chart,
            width: (x.end + 20 + legend + MARGIN).max(LEFT + text_width(&chart.title) * 4 / 3),
            height: (FRAME_HEIGHT + bottom).max(legend_height),
            y: MARGIN + TITLE_HEIGHT..FRAME_HEIGHT - MARGIN,
            x,
            is_upright,
            y_ticks,
            x_ticks,
        }
    }

    fn draw(&self, area: &Area<'_>, top: i32) -> Drawn {
        let y = self.y.start + top..self.y.end + top;
        let title = style(TEXT_SIZE + 4, HPos::Left, VPos::Top);
        area.draw(&Text::new(self.chart.title.clone(), (LEFT, top + MARGIN), title))?;
        for (value, label) in &self.y_ticks.labels {
            let at = self.y_ticks.place(*value, y.end, y.start);
            let line = PathElement::new([(self.x.start, at), (self.x.end, at)], BLACK.mix(0.12));
            area.draw(&line)?;
            let right = style(TEXT_SIZE, HPos::Right, VPos::Center);
            area.draw(&Text::new(label.clone(), (self.x.start - 8, at), right))?;
        }
        let upright = style(TEXT_SIZE, HPos::Center, VPos::Center).transform(FontTransform::Rotate270);
        let middle = (MARGIN + 4, (y.start + y.end) / 2);
        area.draw(&Text::new(self.chart.y_label.clone(), middle, upright))?;
        match &self.chart.content {
            ChartContent::Lines { x_label, series, .. } => self.draw_lines(area, &y, x_label, series)?,
            ChartContent::Bars { categories, series } => self.draw_bars(area, &y, categories, series)?,
        }
        area.draw(&Rectangle::new([(self.x.start, y.start), (self.x.end, y.end)], BLACK.mix(0.6)))?;
        self.draw_legend(area, y.start)
    }

    fn draw_lines(
        &self,
        area: &Area<'_>,
        y: &Range<i32>,
        x_label: &str,
        series: &[(String, Vec<(f64, f64)>)],
    ) -> Drawn {
        let ticks = self.x_ticks.as_ref().expect("lines have ticks on both axes");
        for (value, label) in &ticks.labels {
            let at = ticks.place(*value, self.x.start, self.x.end);
            area.draw(&PathElement::new([(at, y.start), (at, y.end)], BLACK.mix(0.12)))?;
            let below = style(TEXT_SIZE, HPos::Center, VPos::Top);
            area.draw(&Text::new(label.clone(), (at, y.end + 7), below))?;
        }
        let below = style(TEXT_SIZE, HPos::Center, VPos::Top);
        let middle = ((self.x.start + self.x.end) / 2, y.end + 28);
        area.draw(&Text::new(x_label.to_owned(), middle, below))?;
        for (number, (_, points)) in series.iter().enumerate() {
            let color = color(number);
            let drawable = points.iter().filter(|(x, y)| x.is_finite() && y.is_finite());
            let pixels: Vec<(i32, i32)> = drawable
                .map(|&(x, height)| {
                    let across = ticks.place(x, self.x.start, self.x.end);
                    (across, self.y_ticks.place(height, y.end, y.start))
                })
                .collect();
            area.draw(&PathElement::new(pixels.clone(), color.stroke_width(2)))?;
            for pixel in pixels {
                area.draw(&Circle::new(pixel, 4, color.filled()))?;
            }
        }
        Ok(())
    }

    fn draw_bars(
        &self,
        area: &Area<'_>,
        y: &Range<i32>,
        categories: &[String],
        series: &[(String, Vec<Option<f64>>)],
    ) -> Drawn {
        let group = (self.x.end - self.x.start) as f64 / categories.len().max(1) as f64;
        let bar = group / (series.len() as f64 + 1.0);
        for (place, category) in categories.iter().enumerate() {
            let left = f64::from(self.x.start) + group * place as f64;
            for (number, (_, heights)) in series.iter().enumerate() {
                let Some(height) = heights[place].filter(|height| height.is_finite()) else { continue };
                let from = left + bar * (number as f64 + 0.5);
                let high = self.y_ticks.place(height, y.end, y.start);
                let corners = [(from as i32, high), ((from + bar) as i32 - 1, y.end)];
                area.draw(&Rectangle::new(corners, color(number).filled()))?;
            }
            let middle = (left + group / 2.0) as i32;
            let below = match self.is_upright {
                true => style(TEXT_SIZE, HPos::Right, VPos::Center).transform(FontTransform::Rotate270),
                false => style(TEXT_SIZE, HPos::Center, VPos::Top),
            };
            area.draw(&Text::new(category.clone(), (middle, y.end + 8), below))?;
        }
        Ok(())
    }

    fn draw_legend(&self, area: &Area<'_>, top: i32) -> Drawn {
        for (number, name) in self.chart.content.names().into_iter().enumerate() {
            let (left, middle) = (self.x.end + 20, top + LEGEND_LINE * number as i32 + LEGEND_LINE / 2);
            let color = color(number);
            match self.chart.content {
                ChartContent::Lines { .. } => {
                    let line = [(left, middle), (left + SWATCH - 6, middle)];
                    area.draw(&PathElement::new(line, color.stroke_width(2)))?;
                    area.draw(&Circle::new((left + SWATCH / 2 - 3, middle), 4, color.filled()))?;
                }
                ChartContent::Bars { .. } => {
                    let square = [(left, middle - 6), (left + 12, middle + 6)];
                    area.draw(&Rectangle::new(square, color.filled()))?;
                }
            }
            let text = style(TEXT_SIZE, HPos::Left, VPos::Center);
            area.draw(&Text::new(name.to_owned(), (left + SWATCH, middle), text))?;
        }
        Ok(())
    }
}

fn scale(is_log: bool, from_zero: bool) -> Scale {
    match (is_log, from_zero) {
        (true, _) => Scale::Log,
        (false, true) => Scale::FromZero,
        (false, false) => Scale::Linear,
    }
}

fn color(number: usize) -> RGBAColor {
    COLORS[number % COLORS.len()].to_rgba()
}

fn style(size: i32, horizontal: HPos, vertical: VPos) -> TextStyle<'static> {
    TextStyle::from(("sans-serif", size).into_font()).pos(Pos::new(horizontal, vertical))
}

fn text_width(text: &str) -> i32 {
    (text.chars().count() as f64 * f64::from(TEXT_SIZE) * CHARACTER) as i32
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The texts with the position at which they begin or end.
    fn texts(svg: &str) -> Vec<(i32, String)> {
        let number = |element: &str, name: &str| {
            let after = element.split_once(&format!(" {name}=\""))?.1;
            after.split('"').next()?.parse().ok()
        };
        svg.split("<text")
            .skip(1)
            .filter_map(|element| {
                let text = element.split_once('>')?.1.split('<').next()?.trim().to_owned();
                Some((number(element, "x")?, text))
            })
            .collect()
    }

    #[test]
    fn the_legend_is_to_the_right_of_the_plot() {
        let series = vec![
            ("a rather long name of an engine".to_owned(), vec![(0.9, 10.0), (0.99, 5.0)]),
            ("other".to_owned(), vec![(0.95, 20.0)]),
        ];
        let content = ChartContent::Lines { x_label: "recall".into(), x_log: false, series };
        let chart = Chart { title: "title".into(), y_label: "rate".into(), y_log: true, content };
        let svg = svg(&[chart]).unwrap();
        for name in ["a rather long name of an engine", "other"] {
            let (at, _) = texts(&svg).into_iter().find(|(_, text)| text == name).expect(name);
            assert!(at > LEFT + PLOT_WIDTH, "{name} at {at}");
            let width = svg.split_once("width=\"").unwrap().1.split('"').next().unwrap();
            assert!(at + text_width(name) <= width.parse().unwrap(), "{name} ends in the picture");
        }
    }

    #[test]
    fn bars_have_a_label_for_each_category_and_may_be_unknown() {
        let categories: Vec<String> = (0..40).map(|number| format!("category {number}")).collect();
        let series = vec![("one".to_owned(), vec![Some(1.0); 40]), ("two".to_owned(), vec![None; 40])];
        let content = ChartContent::Bars { categories: categories.clone(), series };
        let chart = Chart { title: "title".into(), y_label: "bytes".into(), y_log: false, content };
        let svg = svg(&[chart]).unwrap();
        let texts: Vec<String> = texts(&svg).into_iter().map(|(_, text)| text).collect();
        assert!(categories.iter().all(|category| texts.contains(category)), "{texts:?}");
        assert_eq!(svg.matches("<rect").count(), 1 + 40 + 1 + 2, "ground, bars, border, legend");
    }

    #[test]
    fn nothing_to_draw_is_drawn_empty() {
        let content = ChartContent::Lines { x_label: "x".into(), x_log: true, series: Vec::new() };
        let chart = Chart { title: "t".into(), y_label: "y".into(), y_log: true, content };
        assert!(svg(&[chart]).unwrap().contains("</svg>"));
        assert!(svg(&[]).unwrap().contains("</svg>"));
    }
}
