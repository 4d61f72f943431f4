//! The area of a search, and the cells of the grid that cover it.

use super::distance::{EARTH, between, between_latitudes, degrees, radians};
use super::hash::{Cell, LAT, LON, Position, STEPS};

/// Sizes are in the unit of the request.
#[derive(Clone, Copy, Debug)]
pub enum Shape {
    Circle { radius: f64 },
    Box { width: f64, height: f64 },
}

#[derive(Clone, Copy, Debug)]
pub struct Area {
    pub center: Position,
    pub shape: Shape,
    /// Metres in one unit.
    pub unit: f64,
}

impl Area {
    /// The distance from the centre in metres; `None`: outside.
    pub fn distance(&self, to: Position) -> Option<f64> {
        match self.shape {
            Shape::Circle { radius } => {
                let distance = between(self.center, to);
                (distance <= radius * self.unit).then_some(distance)
            }
            Shape::Box { width, height } => {
                let (width, height) = (width * self.unit, height * self.unit);
                if between_latitudes(to.lat, self.center.lat) > height / 2.0 {
                    return None;
                }
                let same_latitude = Position { lon: self.center.lon, lat: to.lat };
                if between(to, same_latitude) > width / 2.0 {
                    return None;
                }
                Some(between(self.center, to))
            }
        }
    }

    /// The cells to search, in Redis's order, which is that of an unsorted reply.
    pub fn cells(&self) -> Vec<Cell> {
        /// The centre's cell, then north, south, east, west, and the corners.
        const AROUND: [(i32, i32); 9] =
            [(0, 0), (0, 1), (0, -1), (1, 0), (-1, 0), (1, 1), (-1, 1), (1, -1), (-1, -1)];
        let (west, south, east, north) = self.bounds();
        let mut steps = self.steps();
        let mut middle = Cell::around(self.center, steps);
        let short = middle.moved(0, 1).area().1.max < north
            || middle.moved(0, -1).area().1.min > south
            || middle.moved(1, 0).area().0.max < east
            || middle.moved(-1, 0).area().0.min > west;
        if steps > 1 && short {
            steps -= 1;
            middle = Cell::around(self.center, steps);
        }
        let (lon, lat) = middle.area();
        let needed = |(to_east, to_north): (i32, i32)| {
            steps < 2
                || !((lat.min < south && to_north < 0)
                    || (lat.max > north && to_north > 0)
                    || (lon.min < west && to_east < 0)
                    || (lon.max > east && to_east > 0))
        };
        let around = AROUND.into_iter().filter(|at| *at == (0, 0) || needed(*at));
        let mut cells: Vec<Cell> = Vec::with_capacity(9);
        for (to_east, to_north) in around {
            let cell = middle.moved(to_east, to_north);
            // In a huge area neighbours are the same cell.
            if cells.len() > 1 && cells.last() == Some(&cell) {
                continue;
            }
            cells.push(cell);
        }
        cells
    }

    /// West, south, east, north in degrees, not limited to the map.
    fn bounds(&self) -> (f64, f64, f64, f64) {
        let (width, height) = match self.shape {
            Shape::Circle { radius } => (radius, radius),
            Shape::Box { width, height } => (width / 2.0, height / 2.0),
        };
        let (width, height) = (self.unit * width, self.unit * height);
        let Position { lon, lat } = self.center;
        let to_lat = degrees(height / EARTH);
        // Meridians are nearer to each other towards the poles, so each hemisphere has its wide side.
        let at = if lat < 0.0 { lat - to_lat } else { lat + to_lat };
        let to_lon = degrees(width / EARTH / radians(at).cos());
        (lon - to_lon, lat - to_lat, lon + to_lon, lat + to_lat)
    }

    /// Bits per coordinate so that nine cells are about as large as the area.
    fn steps(&self) -> u32 {
        /// Half of the Mercator projection's width in metres.
        const HALF_WORLD: f64 = 20037726.37;
        let radius = match self.shape {
            Shape::Circle { radius } => radius,
            Shape::Box { width, height } => {
                ((width / 2.0) * (width / 2.0) + (height / 2.0) * (height / 2.0)).sqrt()
            }
        };
        let mut radius = radius * self.unit;
        if radius == 0.0 {
            return STEPS;
        }
        let mut steps = 1;
        while radius < HALF_WORLD {
            radius *= 2.0;
            steps += 1;
        }
        steps -= 2;
        let lat = self.center.lat.abs();
        steps -= i32::from(lat > 66.0) + i32::from(lat > 80.0);
        steps.clamp(1, STEPS as i32) as u32
    }
}

/// True on the map.
pub fn on_map(position: Position) -> bool {
    LON.contains(position.lon) && LAT.contains(position.lat)
}
