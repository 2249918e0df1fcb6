// The one way to print for people: columns as wide as their widest cell, two spaces between them,
// no trailing blanks. Colour is decided by whoever prints (Terminal), not here.

/// One cell: its text, and what it means to the reader.
struct Cell: Equatable, ExpressibleByStringLiteral {
    enum Tone: Equatable { case plain, good, doubtful, bad, faint }

    var text: String
    var tone: Tone

    /// Empty text shows as `-`: a column never has a hole in it.
    init(_ text: String, _ tone: Tone = .plain) {
        self.text = text.isEmpty ? "-" : text
        self.tone = text.isEmpty ? .faint : tone
    }

    init(_ number: some BinaryInteger) { self.init(String(number)) }

    init(stringLiteral text: String) { self.init(text) }

    /// The text in the colour of its tone. Source: ECMA-48 SGR, the colours every terminal has.
    func painted(_ colour: Bool) -> String {
        guard colour else { return text }
        let code: String
        switch tone {
        case .plain: return text
        case .good: code = "32"
        case .doubtful: code = "33"
        case .bad: code = "31"
        case .faint: code = "2"
        }
        return "\u{1B}[\(code)m\(text)\u{1B}[0m"
    }

    static func yesNo(_ value: Bool) -> Cell { Cell(value ? "yes" : "no") }
}

/// Rows under a heading.
struct Table: Equatable {
    enum Alignment: Equatable { case left, right }
    struct Column: Equatable {
        var title: String
        var alignment: Alignment

        init(_ title: String, _ alignment: Alignment = .left) {
            self.title = title
            self.alignment = alignment
        }
    }

    var columns: [Column]
    var rows: [[Cell]] = []
    /// Of columns that are to be wider than their cells; empty: none.
    var widthsMin: [Int] = []

    init(_ columns: [Column], rows: [[Cell]] = []) {
        self.columns = columns
        self.rows = rows
    }

    /// Lines without line ends. Width is counted in characters.
    func lines(colour: Bool) -> [String] {
        let heading = columns.map { Cell($0.title) }
        let all = [heading] + rows
        let widths = columns.indices.map { column in
            max(
                all.map { $0[column].text.count }.max() ?? 0,
                column < widthsMin.count ? widthsMin[column] : 0)
        }
        return all.map { row in
            var line = ""
            for (column, cell) in row.enumerated() {
                if column > 0 { line += "  " }
                let blanks = String(repeating: " ", count: widths[column] - cell.text.count)
                let text = cell.painted(colour)
                let isLast = column == row.count - 1
                switch columns[column].alignment {
                case .left: line += isLast ? text : text + blanks
                case .right: line += blanks + text
                }
            }
            return line
        }
    }
}
