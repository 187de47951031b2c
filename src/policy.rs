//! What a council decides before and after a message: when it is there to answer, and what it says when it is not.
//!
//! Everything here is pure: it reads no clock, no file and no network, and sends nothing. A decision is a value; what
//! is done with it is for the service.
//!
//! | module | answers |
//! |---|---|
//! | [`hours`] | Is anybody there? When again? How much of this time was working time? |
//! | [`auto_reply`] | Is this message to be answered by itself, out of hours, and in which words? |

pub mod auto_reply;
pub mod hours;
