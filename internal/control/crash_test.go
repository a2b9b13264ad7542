package control_test

func serveChild(string) {}
