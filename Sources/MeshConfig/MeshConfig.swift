// YAML -> MeshModel.
