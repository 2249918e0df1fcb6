// Whose class is whose: as its GatewayClass names the controller; without one, by Malla's own name.

internal import MeshModel

struct GatewayClasses {
    private var controllers: [String: String] = [:]

    /// - Parameter classes: the GatewayClasses in force; of two of a name, the first.
    init(_ classes: [ConfigObject]) {
        for object in classes where controllers[object.name.name] == nil {
            controllers[object.name.name] = object.root["spec"]?["controllerName"]?.text ?? ""
        }
    }

    func isOurs(_ className: String) -> Bool {
        guard let controller = controllers[className] else {
            return className == defaultGatewayClassName
        }
        return controller == gatewayControllerName
    }

    /// Whether it is a Gateway that another controller judges, whatever is in it.
    func isForeign(_ object: ConfigObject) -> Bool {
        guard object.group == Kind.gatewayGroup, object.kind == "Gateway",
            let className = object.root["spec"]?["gatewayClassName"]?.text, !className.isEmpty
        else { return false }
        return !isOurs(className)
    }
}
