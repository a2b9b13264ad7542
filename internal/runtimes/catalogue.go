package runtimes

import (
	"slices"
	"strings"

	"github.com/firn-run/firn"
)

// Family is a language.
type Family string

// The families of runtimes. Provided is no language: the function brings its
// own runtime along.
const (
	Python   Family = "python"
	Nodejs   Family = "nodejs"
	Java     Family = "java"
	Ruby     Family = "ruby"
	Dotnet   Family = "dotnet"
	Go       Family = "go"
	Provided Family = "provided"
)

// Support is what AWS still does for a runtime.
type Support string

// The states of support. AWS moves a runtime from one to the next on dates that
// it changes at times; what runs here does not stop with them, so that the
// state is that of the catalogue's writing and not a matter of the clock.
const (
	Current    Support = "current"
	Deprecated Support = "deprecated" // no longer patched; functions can be created and updated
	Blocked    Support = "blocked"    // functions can be neither created nor updated
)

// Runtime is a row of the catalogue.
type Runtime struct {
	Name    string // as in CreateFunction: "python3.13"
	Family  Family
	Version string // of the language: "3.13", "22", "21"; of Amazon Linux for Provided
	Support Support
	// System is the Amazon Linux that it runs on at AWS: "AL1", "AL2", "AL2023".
	System        string
	Architectures []string
}

const (
	amd64 = "x86_64"
	arm64 = "arm64"
)

// row makes a Runtime for both architectures.
func row(name string, family Family, version, system string, support Support) Runtime {
	return Runtime{Name: name, Family: family, Version: version, Support: support, System: system, Architectures: []string{amd64, arm64}}
}

// old makes a Runtime that came before arm64 and is gone.
func old(name string, family Family, version string) Runtime {
	return Runtime{Name: name, Family: family, Version: version, Support: Blocked, System: "AL1", Architectures: []string{amd64}}
}

// All is the catalogue, by family and age. Source: the page "Lambda runtimes"
// of the Developer Guide and the enumeration Runtime of the API's model.
func All() []Runtime {
	return []Runtime{
		old("python2.7", Python, "2.7"),
		old("python3.6", Python, "3.6"),
		old("python3.7", Python, "3.7"),
		row("python3.8", Python, "3.8", "AL2", Blocked),
		row("python3.9", Python, "3.9", "AL2", Deprecated),
		row("python3.10", Python, "3.10", "AL2", Current),
		row("python3.11", Python, "3.11", "AL2", Current),
		row("python3.12", Python, "3.12", "AL2023", Current),
		row("python3.13", Python, "3.13", "AL2023", Current),
		row("python3.14", Python, "3.14", "AL2023", Current),
		row("python3.15", Python, "3.15", "AL2023", Current),
		old("nodejs", Nodejs, "0.10"),
		old("nodejs4.3", Nodejs, "4"),
		old("nodejs4.3-edge", Nodejs, "4"),
		old("nodejs6.10", Nodejs, "6"),
		old("nodejs8.10", Nodejs, "8"),
		old("nodejs10.x", Nodejs, "10"),
		row("nodejs12.x", Nodejs, "12", "AL2", Blocked),
		row("nodejs14.x", Nodejs, "14", "AL2", Blocked),
		row("nodejs16.x", Nodejs, "16", "AL2", Blocked),
		row("nodejs18.x", Nodejs, "18", "AL2", Deprecated),
		row("nodejs20.x", Nodejs, "20", "AL2023", Current),
		row("nodejs22.x", Nodejs, "22", "AL2023", Current),
		row("nodejs24.x", Nodejs, "24", "AL2023", Current),
		row("nodejs26.x", Nodejs, "26", "AL2023", Current),
		old("java8", Java, "8"),
		row("java8.al2", Java, "8", "AL2", Current),
		row("java8.al2023", Java, "8", "AL2023", Current),
		row("java11", Java, "11", "AL2", Current),
		row("java11.al2023", Java, "11", "AL2023", Current),
		row("java17", Java, "17", "AL2", Current),
		row("java17.al2023", Java, "17", "AL2023", Current),
		row("java21", Java, "21", "AL2023", Current),
		row("java25", Java, "25", "AL2023", Current),
		old("dotnetcore1.0", Dotnet, "1.0"),
		old("dotnetcore2.0", Dotnet, "2.0"),
		old("dotnetcore2.1", Dotnet, "2.1"),
		row("dotnetcore3.1", Dotnet, "3.1", "AL2", Blocked),
		row("dotnet6", Dotnet, "6", "AL2", Blocked),
		row("dotnet8", Dotnet, "8", "AL2023", Current),
		row("dotnet10", Dotnet, "10", "AL2023", Current),
		old("ruby2.5", Ruby, "2.5"),
		row("ruby2.7", Ruby, "2.7", "AL2", Blocked),
		row("ruby3.2", Ruby, "3.2", "AL2", Deprecated),
		row("ruby3.3", Ruby, "3.3", "AL2023", Current),
		row("ruby3.4", Ruby, "3.4", "AL2023", Current),
		row("ruby4.0", Ruby, "4.0", "AL2023", Current),
		old("go1.x", Go, "1"),
		old("provided", Provided, "1"),
		row("provided.al2", Provided, "2", "AL2", Current),
		row("provided.al2023", Provided, "2023", "AL2023", Current),
	}
}

// Lookup finds a runtime by its name.
func Lookup(name string) (Runtime, bool) {
	all := All()
	if i := slices.IndexFunc(all, func(r Runtime) bool { return r.Name == name }); i >= 0 {
		return all[i], true
	}
	return Runtime{}, false
}

// Managed says that the runtime comes from the platform and not with the
// function.
func (r Runtime) Managed() bool { return r.Family != Provided }

// Refusal is the error of CreateFunction and UpdateFunctionConfiguration for a
// runtime that AWS has blocked, in AWS's words; nil for the others.
func (r Runtime) Refusal() *firn.Fault {
	if r.Support != Blocked {
		return nil
	}
	return firn.Faultf(firn.InvalidParameterValue, "The runtime parameter of %s is no longer supported for creating or "+
		"updating AWS Lambda functions. We recommend you use a supported runtime while creating or updating functions.", r.Name)
}

// ExecutionEnv is the value of AWS_EXECUTION_ENV: "" for runtimes that the
// function brings along, which have none.
func (r Runtime) ExecutionEnv() string {
	if !r.Managed() {
		return ""
	}
	return "AWS_Lambda_" + r.Name
}

// HandlerFormat says how a handler is written, for people; "" where the
// platform does not read it.
func (r Runtime) HandlerFormat() string {
	switch r.Family {
	case Python, Nodejs, Ruby:
		return "FILE.FUNCTION"
	case Java:
		return "PACKAGE.CLASS::METHOD"
	case Dotnet:
		return "ASSEMBLY::NAMESPACE.CLASS::METHOD"
	case Go:
		return "EXECUTABLE"
	}
	return ""
}

// LayerPaths are the places in layers where the language looks for libraries,
// in its order, below /opt. They are searched besides bin (PATH) and lib
// (LD_LIBRARY_PATH), which every runtime has. Source: "Packaging layers" of the
// Developer Guide.
func (r Runtime) LayerPaths() []string {
	switch r.Family {
	case Python:
		return []string{"python/lib/python" + r.Version + "/site-packages", "python"}
	case Nodejs:
		return []string{"nodejs/node" + r.Version + "/node_modules", "nodejs/node_modules"}
	case Java:
		return []string{"java/lib"} // archives directly in it
	case Ruby:
		return []string{"ruby/gems/" + r.Version + ".0", "ruby/lib"}
	}
	return nil
}

// BaseImage is the repository and tag of the runtime's public base image, below
// the registry's folder for Lambda: "python:3.13"; "" when there is none.
func (r Runtime) BaseImage() string {
	switch {
	case r.System == "AL1" && r.Name != "java8" && r.Name != "go1.x" && r.Name != "provided":
		return ""
	case r.Family == Java:
		return "java:" + strings.TrimPrefix(r.Name, "java")
	case r.Family == Provided && r.Name == "provided":
		return "provided:alami"
	case r.Family == Provided:
		return "provided:al" + r.Version
	}
	return string(r.Family) + ":" + r.Version
}
