import TestSupport
import Testing

@Suite("The image of deploy/Containerfile", .serialized)
struct ImageTests {
    private static let containerfile = Command.text(Binaries.repository + "/deploy/Containerfile")

    /// What `apt-get install` of the Containerfile's packages brings, and what Debian always has.
    private static func packages() throws -> Set<String> {
        let line = containerfile.split(separator: "\n").first { $0.contains(" install ") } ?? ""
        let words = line.split(separator: " ").drop { $0 != "install" }.dropFirst()
        var open = words.filter { $0 != "\\" }.map(String.init) + ["libc6"]
        #expect(open.count > 3, "the packages are not where this test looks for them")
        var found: Set<String> = []
        while let package = open.popLast() {
            guard found.insert(package).inserted else { continue }
            let depends = try Command.shell(
                "dpkg-query -W -f '${Depends}, ${Pre-Depends}' \(package) 2>/dev/null || true")
            open += depends.split(separator: ",").flatMap { $0.split(separator: "|") }
                .compactMap {
                    $0.split(whereSeparator: { " :(\n".contains($0) }).first.map(String.init)
                }
        }
        return found
    }

    @Test(arguments: ["malla-agent", "malla"])
    func `starts where no Swift toolchain is, with the packages that are named`(
        _ name: String
    ) throws {
        let program = name == "malla" ? Binaries.malla : Binaries.agent
        let root =
            try Command.shell("mktemp -d /tmp/malla-image-XXXXXX")
            .split(separator: "\n").first.map(String.init) ?? ""
        try #require(root.hasPrefix("/tmp/malla-image-"))
        defer { _ = try? Command.shell("rm -rf \(root)") }

        // The libraries that the program loads, each with the Debian package that it is of.
        let owners = try Command.shell(
            """
            cp \(program) \(root)/program
            ldd \(program) | awk '$3 ~ /^\\// { print $3 } $1 ~ /^\\// { print $1 }' |
            while read -r library; do
              mkdir -p "\(root)$(dirname "$library")"
              cp -L "$library" "\(root)$library"
              owner=$(dpkg -S "*/$(basename "$library")" 2>/dev/null | head -n 1 | cut -d : -f 1)
              echo "${owner:-nobody:$library}"
            done | sort -u
            """)
        let needed = Set(owners.split(separator: "\n").map(String.init))

        #expect(needed.contains("libc6"), "\(owners)")
        #expect(needed.subtracting(try Self.packages()).sorted() == [])
        // Swift reads the command line from /proc, which every container has.
        let start = "mkdir $0/proc; mount -t proc proc $0/proc; exec chroot $0 /program --version"
        let outcome = try Command.run(["unshare", "-m", "sh", "-ec", start, root])
        #expect(outcome.output == "\(name) 0.1.0\n", "\(outcome)")
    }

    @Test func `is the one that the manifest runs`() {
        let makefile = Command.text(Binaries.repository + "/Makefile")
        let manifest = Command.text(Binaries.repository + "/deploy/daemonset.yaml")
        let name =
            makefile.split(separator: "\n").first { $0.hasPrefix("IMAGE := ") }?
            .dropFirst("IMAGE := ".count) ?? "none"
        #expect(manifest.contains("image: \(name)\n"))
    }
}
