//! The arguments of searches.

use bytes::Bytes;

use super::area::Shape;
use super::hash::Position;
use super::{position, unit};
use crate::engine::number::{int, parse_float};
use crate::engine::stop::{Answer, Stop, shown};

/// Which search command it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// GEORADIUS and GEORADIUSBYMEMBER.
    Radius {
        by_member: bool,
        may_store: bool,
    },
    Search {
        store: bool,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sort {
    None,
    Ascending,
    Descending,
}

/// Options as they are given.
#[derive(Debug)]
pub struct Options<'a> {
    pub center: Option<Position>,
    /// With metres per unit.
    pub shape: Option<(Shape, f64)>,
    pub with_distance: bool,
    pub with_hash: bool,
    pub with_coordinates: bool,
    pub sort: Sort,
    /// 0: all.
    pub count: usize,
    /// The first ones found are as good as the nearest.
    pub any: bool,
    pub store: Option<&'a Bytes>,
    pub store_distance: bool,
}

/// `radius unit`
pub fn radius(radius: &Bytes, unit_name: &Bytes) -> Answer<(Shape, f64)> {
    let radius = parse_float(radius).ok_or(Stop::error("ERR need numeric radius"))?;
    if radius < 0.0 {
        return Err(Stop::error("ERR radius cannot be negative"));
    }
    Ok((Shape::Circle { radius }, unit(unit_name)?))
}

/// `width height unit`
fn rectangle(width: &Bytes, height: &Bytes, unit_name: &Bytes) -> Answer<(Shape, f64)> {
    let width = parse_float(width).ok_or(Stop::error("ERR need numeric width"))?;
    let height = parse_float(height).ok_or(Stop::error("ERR need numeric height"))?;
    if height < 0.0 || width < 0.0 {
        return Err(Stop::error("ERR height or width cannot be negative"));
    }
    Ok((Shape::Box { width, height }, unit(unit_name)?))
}

impl<'a> Options<'a> {
    /// Reads what follows the fixed arguments. `locate` finds a member's position; `None`: there is
    /// no such key, which is decided later.
    pub fn parse(
        name: &Bytes,
        mut rest: &'a [Bytes],
        form: Form,
        center: Option<Position>,
        shape: Option<(Shape, f64)>,
        locate: &dyn Fn(&Bytes) -> Answer<Option<Position>>,
    ) -> Answer<Options<'a>> {
        let mut options = Options {
            center,
            shape,
            with_distance: false,
            with_hash: false,
            with_coordinates: false,
            sort: Sort::None,
            count: 0,
            any: false,
            store: None,
            store_distance: false,
        };
        let search = matches!(form, Form::Search { .. });
        let (mut from_member, mut from_position, mut circle, mut square) =
            (false, false, false, false);
        while let [option, values @ ..] = rest {
            let is = |name: &[u8]| option.eq_ignore_ascii_case(name);
            let mut used = 0;
            if is(b"withdist") {
                options.with_distance = true;
            } else if is(b"withhash") {
                options.with_hash = true;
            } else if is(b"withcoord") {
                options.with_coordinates = true;
            } else if is(b"any") {
                options.any = true;
            } else if is(b"asc") {
                options.sort = Sort::Ascending;
            } else if is(b"desc") {
                options.sort = Sort::Descending;
            } else if is(b"count") && !values.is_empty() {
                let count = int(&values[0])?;
                if count <= 0 {
                    return Err(Stop::error("ERR COUNT must be > 0"));
                }
                options.count = usize::try_from(count).unwrap_or(usize::MAX);
                used = 1;
            } else if (is(b"store") || is(b"storedist"))
                && !values.is_empty()
                && matches!(form, Form::Radius { may_store: true, .. })
            {
                options.store = Some(&values[0]);
                options.store_distance = is(b"storedist");
                used = 1;
            } else if is(b"storedist") && form == (Form::Search { store: true }) {
                options.store_distance = true;
            } else if is(b"frommember") && !values.is_empty() && search && !from_position {
                options.center = locate(&values[0])?;
                from_member = true;
                used = 1;
            } else if is(b"fromlonlat") && values.len() >= 2 && search && !from_member {
                options.center = Some(position(&values[0], &values[1])?);
                from_position = true;
                used = 2;
            } else if is(b"byradius") && values.len() >= 2 && search && !square {
                options.shape = Some(radius(&values[0], &values[1])?);
                circle = true;
                used = 2;
            } else if is(b"bybox") && values.len() >= 3 && search && !circle {
                options.shape = Some(rectangle(&values[0], &values[1], &values[2])?);
                square = true;
                used = 3;
            } else {
                return Err(Stop::SYNTAX);
            }
            rest = &values[used..];
        }
        let stores = options.store.is_some() || form == (Form::Search { store: true });
        if stores && (options.with_distance || options.with_hash || options.with_coordinates) {
            let what = if search { "GEOSEARCHSTORE" } else { "STORE option in GEORADIUS" };
            return Err(Stop::failed(format!(
                "ERR {what} is not compatible with WITHDIST, WITHHASH and WITHCOORD options"
            )));
        }
        let name = shown(name);
        if search && !(from_member || from_position) {
            return Err(Stop::failed(format!(
                "ERR exactly one of FROMMEMBER or FROMLONLAT can be specified for {name}"
            )));
        }
        if search && !(circle || square) {
            return Err(Stop::failed(format!(
                "ERR exactly one of BYRADIUS and BYBOX can be specified for {name}"
            )));
        }
        if options.any && options.count == 0 {
            return Err(Stop::error("ERR the ANY argument requires COUNT argument"));
        }
        // The nearest ones are meant, unless any will do.
        if options.count > 0 && options.sort == Sort::None && !options.any {
            options.sort = Sort::Ascending;
        }
        Ok(options)
    }
}
