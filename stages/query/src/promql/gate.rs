//! What Prometheus 3.15 speaks only when a feature flag is set, refused as it refuses it: 400, naming the thing.

use promql_parser::parser::{Expr, VectorSelector};
use promql_parser::util::{ExprVisitor, walk_expr};

use crate::error::{self, QueryError};

/// Refuses what Prometheus does not speak without a flag. `experimental` lifts it for functions and aggregations
/// (`query.limits.experimental_functions`, Prometheus' `promql-experimental-functions`); nothing lifts it for the grammar's extensions.
pub(super) fn check(expr: &Expr, experimental: bool) -> Result<(), QueryError> {
    walk_expr(&mut Gate { experimental }, expr).map(|_| ())
}

struct Gate {
    experimental: bool,
}

impl ExprVisitor for Gate {
    type Error = QueryError;

    fn pre_visit(&mut self, expr: &Expr) -> Result<bool, QueryError> {
        match expr {
            Expr::Call(call) if call.func.experimental && !self.experimental => {
                let name = call.func.name;
                return Err(refused(&format!("function \"{name}\" is not enabled (query.limits.experimental_functions)")));
            }
            Expr::Aggregate(aggregate) => {
                let name = aggregate.op.to_string();
                if !self.experimental && matches!(name.as_str(), "limitk" | "limit_ratio") {
                    return Err(refused(&format!("{name}() is experimental and must be enabled (query.limits.experimental_functions)")));
                }
                // The walk passes over it.
                if let Some(parameter) = &aggregate.param {
                    walk_expr(self, parameter)?;
                }
            }
            Expr::Binary(binary) => {
                let fill = binary.modifier.as_ref().map(|modifier| &modifier.fill_values);
                if fill.is_some_and(|fill| fill.lhs.is_some() || fill.rhs.is_some()) {
                    return Err(refused("binop fill modifiers are experimental and not enabled"));
                }
            }
            Expr::VectorSelector(selector) => no_alternatives(selector)?,
            Expr::MatrixSelector(matrix) => no_alternatives(&matrix.vs)?,
            _ => {}
        }
        Ok(true)
    }
}

fn no_alternatives(selector: &VectorSelector) -> Result<(), QueryError> {
    if selector.matchers.or_matchers.is_empty() {
        return Ok(());
    }
    Err(refused("unexpected identifier \"or\" in label matching, expected \",\" or \"}\""))
}

fn refused(what: &str) -> QueryError {
    QueryError::bad(error::PARSE, format!("invalid parameter \"query\": parse error: {what}"))
}
