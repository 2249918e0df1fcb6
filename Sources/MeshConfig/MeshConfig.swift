// MeshConfig: a directory of Kubernetes objects in YAML or JSON -> Mesh, diagnostics, statuses.
//
// Receives: a directory. Hands on: one `Mesh` that SnapshotCompiler takes, a `Diagnostic` for
// whatever is wrong, unsupported or unknown, and the conditions of every Gateway and HTTPRoute.
// The only place that knows the names of fields. Never serves traffic, never writes the directory.
//
// Stages: Directory (files) -> Object (YAML -> Value, checked against a Shape) -> Core and Gateway
// (objects -> Mesh). An invalid object is refused whole and alone; its last good version stays.

/// What Malla calls itself in GatewayClass.spec.controllerName.
public let gatewayControllerName = "malla.io/gateway-controller"

/// The class that is Malla's even where no GatewayClass object says so.
public let defaultGatewayClassName = "malla"
