internal import AdminAPI

extension CheckItem {
    /// As it should be.
    static func ok(_ name: String, _ message: String) -> CheckItem {
        CheckItem(name: name, status: "OK", message: message)
    }

    /// Malla runs, but something may be missing.
    static func warn(_ name: String, _ message: String, remedy: String) -> CheckItem {
        CheckItem(name: name, status: "WARN", message: message, remedy: remedy)
    }

    /// Malla cannot do its work.
    static func fail(_ name: String, _ message: String, remedy: String) -> CheckItem {
        CheckItem(name: name, status: "FAIL", message: message, remedy: remedy)
    }
}
