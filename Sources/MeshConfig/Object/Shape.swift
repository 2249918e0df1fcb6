// What an object may look like: one value per kind, walked once over every object. A field is
// honoured, harmless (known, no concern of a mesh), or unsupported (known, named in a warning);
// what is in no table is unknown and named too. Nothing is silently ignored.

/// The type of a value.
indirect enum Shape: Sendable {
    case text(TextRule)
    case oneOf([String])
    case integer(ClosedRange<Int>)
    case integerIn([Int])
    case boolean
    /// IntOrString, such as targetPort.
    case integerOrText
    case list(Shape, counts: ClosedRange<Int>, uniqueBy: String? = nil)
    /// `isOpen`: the rules of the kind speak of unknown fields.
    case fields([ShapeField], isOpen: Bool = false)
    /// A map of texts, such as labels, and what its keys and values must look like.
    case texts(countMax: Int, keys: TextRule? = nil, values: TextRule? = nil)
    /// Whatever it is, nothing below is looked at.
    case anything
}

/// One field of a map.
struct ShapeField: Sendable {
    enum Standing: Sendable {
        case honoured
        /// No concern of a mesh; not reported.
        case harmless
        /// Reported by name. The text ends the sentence "… is not supported by this build: ".
        /// `unless`: the one value that asks for nothing.
        case unsupported(String, unless: String?)
    }

    let name: String
    let shape: Shape
    let isRequired: Bool
    let standing: Standing

    /// A field that is honoured.
    static func honoured(_ name: String, _ shape: Shape) -> ShapeField {
        ShapeField(name: name, shape: shape, isRequired: false, standing: .honoured)
    }

    /// A field that is honoured and must be there.
    static func required(_ name: String, _ shape: Shape) -> ShapeField {
        ShapeField(name: name, shape: shape, isRequired: true, standing: .honoured)
    }

    static func unsupported(
        _ name: String, _ consequence: String, _ shape: Shape = .anything, unless: String? = nil
    ) -> ShapeField {
        ShapeField(
            name: name, shape: shape, isRequired: false,
            standing: .unsupported(consequence, unless: unless))
    }

    static func harmless(_ name: String, _ shape: Shape = .anything) -> ShapeField {
        ShapeField(name: name, shape: shape, isRequired: false, standing: .harmless)
    }

    /// Several harmless fields, whatever they hold.
    static func harmless(_ names: [String]) -> [ShapeField] {
        names.map { harmless($0) }
    }
}

/// Walks a value along its shape and notes what does not fit.
struct ShapeCheck {
    /// A finding without its object: `field` is a path.
    struct Finding {
        var severity: Diagnostic.Severity
        var category: Diagnostic.Category
        var line: Int
        var field: String
        var condition: Diagnostic.Condition?
        var message: String
    }

    private(set) var findings: [Finding] = []

    mutating func error(
        _ field: String, _ line: Int, _ message: String, condition: Diagnostic.Condition? = nil
    ) {
        findings.append(
            Finding(
                severity: .error, category: .invalid, line: line, field: field,
                condition: condition, message: message))
    }

    mutating func warn(
        _ category: Diagnostic.Category, _ field: String, _ line: Int, _ message: String,
        condition: Diagnostic.Condition? = nil
    ) {
        findings.append(
            Finding(
                severity: .warning, category: category, line: line, field: field,
                condition: condition, message: message))
    }

    mutating func add(_ finding: Finding) { findings.append(finding) }

    mutating func walk(_ value: Value, _ shape: Shape, at path: String) {
        switch shape {
        case .anything:
            return
        case .text(let rule):
            guard let text = value.text else { return mismatch(value, "a string", at: path) }
            if let problem = rule.problem(with: text) { error(path, value.line, problem) }
        case .oneOf(let choices):
            guard let text = value.text else { return mismatch(value, "a string", at: path) }
            if !choices.contains(text) {
                error(
                    path, value.line,
                    "'\(text)' is not one of \(choices.joined(separator: ", "))")
            }
        case .integer(let range):
            guard let integer = value.integer else {
                return mismatch(value, "an integer", at: path)
            }
            if !range.contains(integer) {
                error(
                    path, value.line,
                    "\(integer) is not in \(range.lowerBound)...\(range.upperBound)")
            }
        case .integerIn(let choices):
            guard let integer = value.integer else {
                return mismatch(value, "an integer", at: path)
            }
            if !choices.contains(integer) {
                let list = choices.map(String.init).joined(separator: ", ")
                error(path, value.line, "\(integer) is not one of \(list)")
            }
        case .boolean:
            if value.boolean == nil { mismatch(value, "true or false", at: path) }
        case .integerOrText:
            if value.integer == nil && value.text == nil {
                mismatch(value, "an integer or a string", at: path)
            }
        case .list(let element, let counts, let key):
            walkList(value, element, counts: counts, uniqueBy: key, at: path)
        case .fields(let fields, let isOpen):
            walkFields(value, fields, isOpen: isOpen, at: path)
        case .texts(let countMax, let keys, let values):
            walkTexts(value, countMax: countMax, keys, values, at: path)
        }
    }

    private mutating func mismatch(_ value: Value, _ expected: String, at path: String) {
        var message = "must be \(expected), is \(value.nounOfContent)"
        if expected == "a string" {
            switch value.content {
            case .integer, .number, .boolean: message += ": put it in quotes"
            default: break
            }
        }
        error(path, value.line, message)
    }

    private mutating func walkList(
        _ value: Value, _ element: Shape, counts: ClosedRange<Int>, uniqueBy key: String?,
        at path: String
    ) {
        guard case .list(let list) = value.content else {
            return mismatch(value, "a list", at: path)
        }
        if list.count < counts.lowerBound {
            error(
                path, value.line, "needs at least \(counts.lowerBound) item(s), has \(list.count)")
        }
        if list.count > counts.upperBound {
            error(
                path, value.line, "holds \(list.count) items, at most \(counts.upperBound) allowed")
        }
        var seen: Set<String> = []
        for (index, child) in list.enumerated() {
            walk(child, element, at: "\(path)[\(index)]")
            guard let key, let identity = child[key] else { continue }
            let text = identity.text ?? identity.integer.map(String.init) ?? ""
            if !seen.insert(text).inserted {
                error(
                    "\(path)[\(index)].\(key)", identity.line, "'\(text)' stands twice in the list")
            }
        }
    }

    private mutating func walkFields(
        _ value: Value, _ shape: [ShapeField], isOpen: Bool, at path: String
    ) {
        guard case .fields(let fields) = value.content else {
            return mismatch(value, "a map", at: path)
        }
        let prefix = path.isEmpty ? "" : path + "."
        for field in fields where !field.value.isNull {
            guard let known = shape.first(where: { $0.name == field.name }) else {
                if isOpen { continue }
                warn(
                    .unknown, prefix + field.name, field.line,
                    "unknown field, ignored: check its spelling" + nearest(field.name, shape))
                continue
            }
            if case .unsupported(let consequence, let unless) = known.standing,
                unless == nil || field.value.text != unless
            {
                warn(
                    .unsupported, prefix + field.name, field.line,
                    "is not supported by this build: \(consequence)")
            }
            walk(field.value, known.shape, at: prefix + field.name)
        }
        for field in shape where field.isRequired && value[field.name] == nil {
            error(prefix + field.name, value.line, "is required and missing")
        }
    }

    private func nearest(_ name: String, _ shape: [ShapeField]) -> String {
        let folded = name.lowercased()
        guard let near = shape.first(where: { $0.name.lowercased() == folded }) else { return "" }
        return " (did you mean '\(near.name)'?)"
    }

    private mutating func walkTexts(
        _ value: Value, countMax: Int, _ keys: TextRule?, _ values: TextRule?, at path: String
    ) {
        guard case .fields(let fields) = value.content else {
            return mismatch(value, "a map", at: path)
        }
        if fields.count > countMax {
            error(path, value.line, "holds \(fields.count) entries, at most \(countMax) allowed")
        }
        for field in fields where !field.value.isNull && field.value.text == nil {
            error(
                "\(path)[\(field.name)]", field.line,
                "must be a string, is \(field.value.nounOfContent): put it in quotes")
        }
        for field in fields {
            if let problem = keys?.problem(with: field.name) { error(path, field.line, problem) }
            if let text = field.value.text, let problem = values?.problem(with: text) {
                error("\(path)[\(field.name)]", field.line, problem)
            }
        }
    }
}
