internal import Logging

/// The log: standard error, one line each.
enum Log {
    static func start(_ label: String) -> Logger {
        LoggingSystem.bootstrap { StreamLogHandler.standardError(label: $0) }
        return Logger(label: label)
    }
}
