//! How a handler is named in the table: by whether it waits, and whom it asks for.

/// A handler that answers at once, for anybody or for a principal whose name does not matter.
macro_rules! read {
    ($handler:path) => {
        |request| Box::pin(std::future::ready($handler(&request)))
    };
    ($handler:path, any $principal:ident) => {
        |request, _principal| Box::pin(std::future::ready($handler(&request)))
    };
    ($handler:path, as operator) => {
        |request, operator| Box::pin(std::future::ready($handler(&request, &operator)))
    };
}

/// A handler that waits: for a body, or for the node.
macro_rules! act {
    ($handler:path) => {
        |request| Box::pin($handler(request))
    };
    ($handler:path, as $principal:ident) => {
        |request, $principal| Box::pin($handler(request, $principal))
    };
}
