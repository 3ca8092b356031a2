//! A stage's operator as a state machine: batches in, batches out, one state per partition; and the stream that drives it.

use std::future::Future;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::error::Result as PlanResult;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures::{StreamExt, TryStreamExt};

/// State of one partition.
pub(crate) trait Operator: Send + 'static {
    /// Takes a batch; what is ready goes out.
    fn take(&mut self, batch: &RecordBatch) -> impl Future<Output = PlanResult<Vec<RecordBatch>>> + Send;

    /// The input has ended; what is left goes out.
    fn finish(self) -> impl Future<Output = PlanResult<Vec<RecordBatch>>> + Send;
}

/// Runs an operator over a partition.
pub(crate) fn drive<O: Operator>(input: SendableRecordBatchStream, operator: O, schema: SchemaRef) -> SendableRecordBatchStream {
    let batches = futures::stream::unfold(Some((input, operator)), |at| async move {
        let (mut input, mut operator) = at?;
        loop {
            match input.next().await {
                Some(Ok(batch)) => match operator.take(&batch).await {
                    Ok(out) if out.is_empty() => {}
                    Ok(out) => return Some((Ok(out), Some((input, operator)))),
                    Err(error) => return Some((Err(error), None)),
                },
                Some(Err(error)) => return Some((Err(error), None)),
                None => return Some((operator.finish().await, None)),
            }
        }
    });
    let batches = batches.map_ok(|out| futures::stream::iter(out.into_iter().map(Ok))).try_flatten();
    Box::pin(RecordBatchStreamAdapter::new(schema, batches))
}
