/// How long the last change of configuration took, stage by stage.
struct ChangeTimes {
    /// Reading what was written, resolving references.
    var read = Duration.zero
    var compile = Duration.zero
    /// Handing it to every worker.
    var engine = Duration.zero
    /// Putting programs to new interfaces.
    var attach = Duration.zero
    /// Until the kernel's maps hold it all.
    var maps = Duration.zero

    var stages: [(name: String, duration: Duration)] {
        [
            ("read", read), ("compile", compile), ("engine", engine), ("attach", attach),
            ("maps", maps),
        ]
    }
}
