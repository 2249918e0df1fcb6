print("malla")
