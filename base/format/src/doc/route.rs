//! A version of the route table as a document.

use tailors_model::RouteTable;

use super::Document;

/// Object `route/v1/{version}`.
#[derive(Clone, PartialEq, Eq, Debug, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RouteDoc {
    /// The table.
    pub table: RouteTable,
}

impl Document for RouteDoc {
    const FORMAT: &'static str = crate::document_format!("route");
}
