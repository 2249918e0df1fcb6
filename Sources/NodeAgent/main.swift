print("malla-agent")
