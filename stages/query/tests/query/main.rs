//! Queries from outside: over chunk files of a real store, against recorded answers of Prometheus, through HTTP.

mod day;
mod http;
mod prometheus;
mod promql;
mod pushdown;
mod speed;
mod store;
