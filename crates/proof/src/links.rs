//! What ties the stages of a proof together: the columns that several of them have, at one point that is drawn after all stages were committed.

use crate::{
    error::VerifyError,
    field::EF,
    functional::{At, Place, Points},
    listener::Listener,
    plan::{
        Plan,
        expr::{ColumnId, Operand, Read},
        stages::Stages,
    },
    proof::Atoms,
    transcript::Channel,
};

/// Label of the message.
pub(crate) const LABEL: &str = "links";

/// The point of all links and what was said of them.
pub(crate) struct Links<V = EF> {
    /// Coordinates for each axis.
    point: Vec<Vec<EF>>,
    pub(crate) values: Vec<V>,
}

/// Draws the point.
pub(crate) fn point(stages: &Stages, channel: &mut impl Channel) -> Vec<Vec<EF>> {
    let lengths = stages.link_lengths();
    let draw = |n: &usize| channel.transcript().challenges(*n);
    lengths.iter().map(draw).collect()
}

/// Hears the value of each link.
///
/// # Errors
/// [`VerifyError::Decode`].
pub(crate) fn listen<L: Listener>(
    stages: &Stages,
    listener: &mut L,
) -> Result<Links<L::V>, VerifyError> {
    let point = point(stages, listener);
    let values = listener.hear(LABEL, stages.links.len())?;
    Ok(Links { point, values })
}

impl<V: Clone> Links<V> {
    pub(crate) fn new(point: Vec<Vec<EF>>, values: Vec<V>) -> Self {
        Self { point, values }
    }

    /// Adds what was said of a stage's columns to the claims on its witness.
    pub(crate) fn claim(
        &self,
        stages: &Stages,
        stage: usize,
        points: &mut Points<'_>,
        atoms: &mut Atoms,
        values: &mut Vec<V>,
    ) {
        let first = points.random.len();
        points.random.extend(self.point.iter().cloned());
        for (link, value) in stages.links.iter().zip(&self.values) {
            for (_, column) in link.ends.iter().filter(|(s, _)| *s == stage) {
                let axes = axes(points, &stages.plans[stage], *column, first);
                atoms.push(*column, axes);
                values.push(value.clone());
            }
        }
    }
}

/// The axis vectors of a column at the links' point, whose coordinates are those of labels from `first` on.
pub(crate) fn axes(
    points: &mut Points<'_>,
    plan: &Plan,
    column: ColumnId,
    first: usize,
) -> Vec<crate::functional::AxisId> {
    let shape = &plan.columns[column].shape;
    let read = Read::plain(Operand::Column(column), shape.len());
    let places: Vec<Place> = shape
        .iter()
        .enumerate()
        .map(|(axis, len)| Place {
            len: *len,
            at: At::Random(first + axis),
            scale: None,
        })
        .collect();
    points.axes(&read, shape, &places)
}
