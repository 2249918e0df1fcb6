// The short way of a change: files in which nothing is new but who stands behind services, which is
// what pods that come and go write all day. Everything else keeps its place, so that the cost is
// the change's and not the directory's. Whatever is not surely such a change goes the long way.

internal import MeshModel

extension ConfigStore {
    /// Reads `files` and puts their endpoints into what is in force.
    ///
    /// - Returns: `nil` if that is not all that has changed: nothing was done, `reload` is due.
    /// - Complexity: the files' lengths and a copy of the array of services.
    public mutating func refill(
        _ written: WrittenFiles, leaving isBeingWritten: (String) -> Bool = { _ in false }
    ) -> ConfigResult? {
        // Taken out meanwhile, so that nothing of it is copied.
        guard !written.entries.isEmpty, var reading = last.take() else { return nil }
        defer { last = reading }
        var fresh: [(name: String, file: StoredFile)] = []
        var names: Set<ObjectName> = []
        for entry in written.entries {
            let name = entry.relativePath
            // Without a look at the text where nothing of this kind can be in it: it would be read
            // twice.
            guard let old = files[name], old.isGood, !reading.noted.contains(name),
                old.document.objects.contains(where: { $0.kind == "EndpointSlice" }),
                let new = try? StoredFile(entry, stamp: readings + 1), new.isGood,
                !isBeingWritten(name),
                new.checks.allSatisfy(\.isEmpty), let slices = Self.slices(from: old, to: new)
            else { return nil }
            for slice in slices {
                guard let service = reading.endpoints?.replace(slice) else { return nil }
                names.insert(service)
            }
            fresh.append((name, new))
        }
        var services: [(index: Int, service: Service)] = []
        for name in names {
            guard let index = reading.serviceIndex[name],
                let object = lastGood[ObjectKey(group: "", kind: "Service", name: name)]
            else { return nil }
            var service = reading.result.mesh.services[index]
            reading.endpoints?.fill(&service, object)
            if service != reading.result.mesh.services[index] { services.append((index, service)) }
        }
        readings += 1
        for (name, file) in fresh { take(name, file) }
        for (index, service) in services { reading.result.mesh.services[index] = service }
        reading.result.isChanged = !services.isEmpty
        return reading.result
    }

    private mutating func take(_ name: String, _ file: StoredFile) {
        files[name] = file
        let good = file.document.objects
        for object in good { lastGood[object.key] = object }
        inForce.replace(name, with: GoodFile(objects: good.filter(\.isHonoured)))
    }

    /// The slices that are new, where both hold the same objects and all others say what they said.
    private static func slices(from old: StoredFile, to new: StoredFile) -> [ConfigObject]? {
        let (before, now) = (old.document.objects, new.document.objects)
        guard before.count == now.count else { return nil }
        var slices: [ConfigObject] = []
        for (before, now) in zip(before, now) {
            guard before.key == now.key, before.version == now.version else { return nil }
            if now.kind == "EndpointSlice", now.isHonoured {
                guard before.labels == now.labels else { return nil }
                slices.append(now)
            } else if !before.root.says(now.root) {
                return nil
            }
        }
        return slices
    }
}
