//! The questions about rights that the safe client does not offer: which operations a topic or the cluster allows us,
//! and the access control list of a transactional id.
#![expect(unsafe_code, reason = "the safe client has no call for these questions")]

use std::ffi::{CStr, CString, c_char};
use std::ptr::{self, NonNull};
use std::time::Duration;

use rdkafka::admin::AdminClient;
use rdkafka::bindings as c;
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::types::RDKafkaRespErr;

use super::ANSWER;
use super::context::Context;
use super::rights::{Acl, Operation};

/// Beyond the library's own time-out, which ends every question with an answer.
const GRACE: Duration = Duration::from_secs(2);

/// What a topic allows us; `None` when the broker does not tell.
///
/// # Errors
/// A topic that we may not see, brokers that do not answer or do not know the question.
pub(super) fn topic_operations(client: &AdminClient<Context>, topic: &str) -> KafkaResult<Option<Vec<Operation>>> {
    let name = CString::new(topic)?;
    let mut names = [name.as_ptr()];
    let question = Question::new(client, c::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS)?.with_operations();
    // SAFETY: one name that lives as long as the collection, which is destroyed once; client, options and queue are
    // alive.
    let answer = unsafe {
        let topics = c::rd_kafka_TopicCollection_of_topic_names(names.as_mut_ptr(), names.len());
        c::rd_kafka_DescribeTopics(
            question.client,
            topics,
            question.options.as_ptr(),
            question.queue.as_ptr(),
        );
        c::rd_kafka_TopicCollection_destroy(topics);
        question.answer()?
    };
    // SAFETY: the event is alive until the end of this function, and all that is read here belongs to it.
    unsafe {
        let result = NonNull::new(c::rd_kafka_event_DescribeTopics_result(answer.0.as_ptr()).cast_mut());
        let result = result.ok_or(KafkaError::AdminOp(RDKafkaErrorCode::BadMessage))?;
        let mut count = 0;
        let found = c::rd_kafka_DescribeTopics_result_topics(result.as_ptr(), &mut count);
        if found.is_null() || count != 1 {
            return Ok(None);
        }
        let error = c::rd_kafka_TopicDescription_error(*found);
        if !error.is_null() {
            let code = c::rd_kafka_error_code(error);
            if code != RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR {
                return Err(KafkaError::AdminOp(code.into()));
            }
        }
        let mut count = 0;
        let first = c::rd_kafka_TopicDescription_authorized_operations(*found, &mut count);
        Ok(operations(first, count))
    }
}

/// What the cluster itself allows us; `None` when the broker does not tell.
///
/// # Errors
/// Brokers that do not answer or do not know the question.
pub(super) fn cluster_operations(client: &AdminClient<Context>) -> KafkaResult<Option<Vec<Operation>>> {
    let question = Question::new(client, c::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBECLUSTER)?.with_operations();
    // SAFETY: client, options and queue are alive; what is read belongs to the event, which outlives it.
    unsafe {
        c::rd_kafka_DescribeCluster(question.client, question.options.as_ptr(), question.queue.as_ptr());
        let answer = question.answer()?;
        let result = NonNull::new(c::rd_kafka_event_DescribeCluster_result(answer.0.as_ptr()).cast_mut());
        let result = result.ok_or(KafkaError::AdminOp(RDKafkaErrorCode::BadMessage))?;
        let mut count = 0;
        let first = c::rd_kafka_DescribeCluster_result_authorized_operations(result.as_ptr(), &mut count);
        Ok(operations(first, count))
    }
}

/// All entries about a transactional id: by its name, by a beginning of it, and for all. Empty also where there is no
/// access control, or we may not see the lists: librdkafka 2.12 drops the error of that answer.
///
/// # Errors
/// Brokers that do not answer or do not know the question.
pub(super) fn transactional_id_acls(client: &AdminClient<Context>, id: &str) -> KafkaResult<Vec<Acl>> {
    let name = CString::new(id)?;
    let question = Question::new(client, c::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBEACLS)?;
    let mut text = [0; 256];
    // SAFETY: the filter copies the name and is destroyed once, after the call that reads it; `text` is as long as is
    // said; what is read belongs to the event, which outlives it.
    unsafe {
        let filter = c::rd_kafka_AclBindingFilter_new(
            c::rd_kafka_ResourceType_t::RD_KAFKA_RESOURCE_TRANSACTIONAL_ID,
            name.as_ptr(),
            c::rd_kafka_ResourcePatternType_t::RD_KAFKA_RESOURCE_PATTERN_MATCH,
            ptr::null(),
            ptr::null(),
            c::rd_kafka_AclOperation_t::RD_KAFKA_ACL_OPERATION_ANY,
            c::rd_kafka_AclPermissionType_t::RD_KAFKA_ACL_PERMISSION_TYPE_ANY,
            text.as_mut_ptr(),
            text.len(),
        );
        let filter = NonNull::new(filter).ok_or(KafkaError::AdminOp(RDKafkaErrorCode::InvalidArgument))?;
        c::rd_kafka_DescribeAcls(
            question.client,
            filter.as_ptr(),
            question.options.as_ptr(),
            question.queue.as_ptr(),
        );
        c::rd_kafka_AclBinding_destroy(filter.as_ptr());
        let answer = question.answer()?;
        let result = NonNull::new(c::rd_kafka_event_DescribeAcls_result(answer.0.as_ptr()).cast_mut());
        let result = result.ok_or(KafkaError::AdminOp(RDKafkaErrorCode::BadMessage))?;
        let mut count = 0;
        let first = c::rd_kafka_DescribeAcls_result_acls(result.as_ptr(), &mut count);
        if first.is_null() {
            return Ok(Vec::new());
        }
        let acls = std::slice::from_raw_parts(first, count).iter().map(|&acl| acl_of(acl));
        Ok(acls.collect())
    }
}

/// # Safety
/// `acl` is an entry that lives.
unsafe fn acl_of(acl: *const c::rd_kafka_AclBinding_t) -> Acl {
    // SAFETY: the caller's promise; both texts end with a zero and belong to the entry.
    unsafe {
        Acl {
            principal: text(c::rd_kafka_AclBinding_principal(acl)),
            host: text(c::rd_kafka_AclBinding_host(acl)),
            operation: Operation::from_code(c::rd_kafka_AclBinding_operation(acl) as u32),
            allows: c::rd_kafka_AclBinding_permission_type(acl)
                == c::rd_kafka_AclPermissionType_t::RD_KAFKA_ACL_PERMISSION_TYPE_ALLOW,
        }
    }
}

/// # Safety
/// `text` is null or ends with a zero.
unsafe fn text(text: *const c_char) -> String {
    if text.is_null() {
        return String::new();
    }
    // SAFETY: the caller's promise.
    unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned()
}

/// # Safety
/// `first` is null or the first of `count` operations.
unsafe fn operations(first: *const c::rd_kafka_AclOperation_t, count: usize) -> Option<Vec<Operation>> {
    if first.is_null() {
        return None;
    }
    // SAFETY: the caller's promise. Read as numbers, because a newer broker may know operations that are no value of
    // the enumeration.
    let codes = unsafe { std::slice::from_raw_parts(first.cast::<u32>(), count) };
    Some(codes.iter().map(|&code| Operation::from_code(code)).collect())
}

/// The answer to a question, given back with the value.
struct Answer(NonNull<c::rd_kafka_event_t>);

impl Drop for Answer {
    fn drop(&mut self) {
        // SAFETY: taken from the queue by `Question::answer`, given back once.
        unsafe { c::rd_kafka_event_destroy(self.0.as_ptr()) };
    }
}

/// What every question needs. Lives no longer than the client that it was made from.
struct Question {
    client: *mut c::rd_kafka_t,
    options: NonNull<c::rd_kafka_AdminOptions_t>,
    queue: NonNull<c::rd_kafka_queue_t>,
}

impl Question {
    fn new(client: &AdminClient<Context>, kind: c::rd_kafka_admin_op_t) -> KafkaResult<Self> {
        let client = client.inner().native_ptr();
        let none = || KafkaError::ClientCreation("no question can be asked".to_owned());
        // SAFETY: the client is alive; both are given back by `drop`. A time-out that is refused leaves the default.
        unsafe {
            let queue = NonNull::new(c::rd_kafka_queue_new(client)).ok_or_else(none)?;
            let Some(options) = NonNull::new(c::rd_kafka_AdminOptions_new(client, kind)) else {
                c::rd_kafka_queue_destroy(queue.as_ptr());
                return Err(none());
            };
            let wait_ms = i32::try_from(ANSWER.as_millis()).unwrap_or(i32::MAX);
            c::rd_kafka_AdminOptions_set_request_timeout(options.as_ptr(), wait_ms, ptr::null_mut(), 0);
            Ok(Self { client, options, queue })
        }
    }

    /// Asks for what we are allowed, too.
    fn with_operations(self) -> Self {
        // SAFETY: the options are alive; an error, which only another kind of question gives, is destroyed once.
        unsafe {
            let error = c::rd_kafka_AdminOptions_set_include_authorized_operations(self.options.as_ptr(), 1);
            if !error.is_null() {
                c::rd_kafka_error_destroy(error);
            }
        }
        self
    }

    fn answer(&self) -> KafkaResult<Answer> {
        let wait_ms = i32::try_from((ANSWER + GRACE).as_millis()).unwrap_or(i32::MAX);
        // SAFETY: the queue is alive; the event belongs to us.
        let event = unsafe { c::rd_kafka_queue_poll(self.queue.as_ptr(), wait_ms) };
        let answer = NonNull::new(event)
            .map(Answer)
            .ok_or(KafkaError::AdminOp(RDKafkaErrorCode::OperationTimedOut))?;
        // SAFETY: the event is alive.
        match unsafe { c::rd_kafka_event_error(answer.0.as_ptr()) } {
            RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR => Ok(answer),
            code => Err(KafkaError::AdminOp(code.into())),
        }
    }
}

impl Drop for Question {
    fn drop(&mut self) {
        // SAFETY: both were made in `new` and are given back once, while the client lives.
        unsafe {
            c::rd_kafka_AdminOptions_destroy(self.options.as_ptr());
            c::rd_kafka_queue_destroy(self.queue.as_ptr());
        }
    }
}
