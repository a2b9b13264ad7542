package telemetry

// level is the level of a log line, least first. Only with the JSON format do
// levels decide what is logged.
type level uint8

// The names of LoggingConfig, in the order of the frames' types.
const (
	levelNone level = iota
	levelTrace
	levelDebug
	levelInfo
	levelWarn
	levelError
	levelFatal
)

// levelName is the level as AWS writes it, "" for levelNone.
func levelName(l level) string {
	switch l {
	case levelTrace:
		return "TRACE"
	case levelDebug:
		return "DEBUG"
	case levelInfo:
		return "INFO"
	case levelWarn:
		return "WARN"
	case levelError:
		return "ERROR"
	case levelFatal:
		return "FATAL"
	}
	return ""
}

// levelOf reads a name in any case, also those that the logging libraries of
// Python and .NET have for the same; levelNone when it is none.
func levelOf[T string | []byte](name T) level {
	const longest = len("information")
	if len(name) == 0 || len(name) > longest {
		return levelNone
	}
	var upper [longest]byte
	for i := range len(name) {
		c := name[i]
		if 'a' <= c && c <= 'z' {
			c -= 'a' - 'A'
		}
		upper[i] = c
	}
	switch string(upper[:len(name)]) {
	case "TRACE":
		return levelTrace
	case "DEBUG":
		return levelDebug
	case "INFO", "INFORMATION":
		return levelInfo
	case "WARN", "WARNING":
		return levelWarn
	case "ERROR":
		return levelError
	case "FATAL", "CRITICAL":
		return levelFatal
	}
	return levelNone
}

// least is a level of LoggingConfig; what is not set means INFO.
func least(name string) level {
	if l := levelOf(name); l != levelNone {
		return l
	}
	return levelInfo
}
