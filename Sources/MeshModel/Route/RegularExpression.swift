internal import Glibc

/// A compiled POSIX extended expression, anchored at both ends. Only rules that ask for one pay.
///
/// - Owns: one `regex_t`.
/// - Threads: any; glibc's regexec locks the pattern.
/// - Source: regcomp(3). `\d`, `\D` and `(?:` of RE2 are translated; other extensions of RE2 (lazy
///   repeats, flags, look-around) are refused.
@safe final class RegularExpression: @unchecked Sendable {
    private let pattern: UnsafeMutablePointer<regex_t>

    /// `nil` if the text is no expression.
    init?(_ text: String) {
        guard let translated = Self.translate(text) else { return nil }
        let pattern = UnsafeMutablePointer<regex_t>.allocate(capacity: 1)
        let result = unsafe regcomp(pattern, "^(" + translated + ")$", REG_EXTENDED)
        // Failing after `self.pattern` is set would run `deinit` on what regcomp has freed already.
        if result != 0 {
            unsafe pattern.deallocate()
            return nil
        }
        unsafe self.pattern = pattern
    }

    deinit {
        unsafe regfree(pattern)
        unsafe pattern.deallocate()
    }

    func matches(_ bytes: Bytes, _ range: ByteRange) -> Bool {
        // The range is shifted to the beginning, so that `^` means the range's own; REG_STARTEND
        // keeps regexec inside it: the bytes need no NUL behind them.
        var limits = regmatch_t(rm_so: 0, rm_eo: regoff_t(range.count))
        return unsafe bytes.pointer.withMemoryRebound(to: CChar.self, capacity: bytes.count) {
            unsafe regexec(pattern, $0 + range.lower, 1, &limits, REG_STARTEND) == 0
        }
    }

    private static func translate(_ text: String) -> String? {
        var out = ""
        var rest = Array(text.unicodeScalars)[...]
        var previousRepeats = false
        while let scalar = rest.popFirst() {
            var repeats = false
            switch scalar {
            case "\\":
                guard let escaped = rest.popFirst() else { return nil }
                switch escaped {
                case "d": out += "[0-9]"
                case "D": out += "[^0-9]"
                default: out.unicodeScalars += [scalar, escaped]
                }
            case "(" where rest.first == "?":
                guard rest.dropFirst().first == ":" else { return nil }
                rest = rest.dropFirst(2)
                out += "("
            case "?" where previousRepeats: return nil
            case "*", "+", "?", "}":
                repeats = true
                out.unicodeScalars.append(scalar)
            case "\0": return nil
            default: out.unicodeScalars.append(scalar)
            }
            previousRepeats = repeats
        }
        return out
    }
}
