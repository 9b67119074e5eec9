"""Small projects in many languages, each with a bug that one of its tests finds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Sample:
    """A project whose ``add`` subtracts."""

    name: str
    files: Mapping[str, str]
    #: What is wrong, and what would be right.
    path: str
    #: The test that finds it, and one that passes all along.
    failing: str
    passing: str
    #: What installs its toolchain on Debian.
    packages: str
    good: str = "a + b"
    bad: str = "a - b"

    def mended(self) -> dict[str, str]:
        return {**self.files, self.path: self.files[self.path].replace(self.bad, self.good)}

    def mended_wrongly(self) -> dict[str, str]:
        return {**self.files, self.path: self.files[self.path].replace(self.bad, "a * b")}


RUST = Sample(
    name="rust",
    files={
        "Cargo.toml": '[workspace]\nmembers = ["adder", "strings"]\nresolver = "2"\n',
        "adder/Cargo.toml": '[package]\nname = "adder"\nversion = "0.1.0"\nedition = "2021"\n\n'
        '[dependencies]\nstrings = { path = "../strings" }\n',
        "adder/src/lib.rs": "/// Adds.\n///\n/// ```\n/// assert_eq!(adder::add(0, 0), 0);\n/// ```\n"
        "pub fn add(a: i32, b: i32) -> i32 {\n    a - b\n}\n\n"
        "pub fn shown(a: i32) -> String {\n    strings::text(a)\n}\n\n"
        "#[cfg(test)]\nmod tests {\n    use super::*;\n\n"
        '    #[test]\n    fn shows() {\n        assert_eq!(shown(1), "1");\n    }\n}\n',
        "adder/tests/adding.rs": "#[test]\nfn adds() {\n    assert_eq!(adder::add(1, 2), 3);\n}\n\n"
        "#[test]\nfn adds_nothing() {\n    assert_eq!(adder::add(0, 0), 0);\n}\n",
        "strings/Cargo.toml": '[package]\nname = "strings"\nversion = "0.1.0"\nedition = "2021"\n',
        "strings/src/lib.rs": "pub fn text(a: i32) -> String {\n    a.to_string()\n}\n",
    },
    path="adder/src/lib.rs",
    failing="tests/adding.rs::adds",
    passing="adder src/lib.rs::tests::shows",
    packages="",
)
GO = Sample(
    name="go",
    files={
        "go.mod": "module example.com/adder\n\ngo 1.19\n",
        "adder.go": "package adder\n\n// Add adds.\nfunc Add(a, b int) int {\n\treturn a - b\n}\n",
        "adder_test.go": 'package adder\n\nimport "testing"\n\nfunc TestAdd(t *testing.T) {\n'
        '\tt.Run("one and two", func(t *testing.T) {\n\t\tif got := Add(1, 2); got != 3 {\n'
        '\t\t\tt.Errorf("got %d", got)\n\t\t}\n\t})\n'
        '\tt.Run("nothing", func(t *testing.T) {\n\t\tif Add(0, 0) != 0 {\n'
        '\t\t\tt.Error("not nothing")\n\t\t}\n\t})\n}\n',
    },
    path="adder.go",
    failing="example.com/adder::TestAdd/one_and_two",
    passing="example.com/adder::TestAdd/nothing",
    packages="golang-go",
)
_JAVA = {
    "src/main/java/adder/Adder.java": "package adder;\n\npublic class Adder {\n"
    "    public static int add(int a, int b) {\n        return a - b;\n    }\n}\n",
    "src/test/java/adder/AdderTest.java": "package adder;\n\nimport static org.junit.Assert.assertEquals;\n\n"
    "import org.junit.Test;\n\npublic class AdderTest {\n"
    "    @Test\n    public void adds() {\n        assertEquals(3, Adder.add(1, 2));\n    }\n\n"
    "    @Test\n    public void addsNothing() {\n        assertEquals(0, Adder.add(0, 0));\n    }\n}\n",
}
MAVEN = Sample(
    name="maven",
    files={
        **_JAVA,
        "pom.xml": '<project xmlns="http://maven.apache.org/POM/4.0.0">\n  <modelVersion>4.0.0</modelVersion>\n'
        "  <groupId>example</groupId>\n  <artifactId>adder</artifactId>\n  <version>1</version>\n  <properties>\n"
        "    <maven.compiler.source>17</maven.compiler.source>\n"
        "    <maven.compiler.target>17</maven.compiler.target>\n"
        "    <project.build.sourceEncoding>UTF-8</project.build.sourceEncoding>\n  </properties>\n"
        "  <dependencies>\n    <dependency>\n      <groupId>junit</groupId>\n      <artifactId>junit</artifactId>\n"
        "      <version>4.x</version>\n      <scope>test</scope>\n    </dependency>\n  </dependencies>\n"
        # Debian's packages in place of the central repository.
        + "".join(
            f"  <{kind}ies>\n    <{kind}y>\n      <id>central</id>\n"
            f"      <url>file:///usr/share/maven-repo</url>\n    </{kind}y>\n  </{kind}ies>\n"
            for kind in ("repositor", "pluginRepositor")
        )
        + "</project>\n",
    },
    path="src/main/java/adder/Adder.java",
    failing="adder.AdderTest.adds",
    passing="adder.AdderTest.addsNothing",
    packages="maven libsurefire-java libmaven-compiler-plugin-java libmaven-resources-plugin-java junit4",
)
GRADLE = Sample(
    name="gradle",
    files={
        **_JAVA,
        "build.gradle": "apply plugin: 'java'\n\n"
        "repositories {\n    maven { url 'file:///usr/share/maven-repo' }\n}\n\n"
        "dependencies {\n    testCompile 'junit:junit:4.x'\n}\n",
    },
    path="src/main/java/adder/Adder.java",
    failing="adder.AdderTest.adds",
    passing="adder.AdderTest.addsNothing",
    packages="gradle junit4",
)
CMAKE = Sample(
    name="cmake",
    files={
        "CMakeLists.txt": "cmake_minimum_required(VERSION 3.10)\nproject(adder C)\nenable_testing()\n"
        "add_executable(adding tests/adding.c adder.c)\nadd_test(NAME adds COMMAND adding 1 2 3)\n"
        "add_test(NAME adds_nothing COMMAND adding 0 0 0)\n",
        "adder.c": "int add(int a, int b) {\n    return a - b;\n}\n",
        "tests/adding.c": "#include <stdlib.h>\n\nint add(int a, int b);\n\nint main(int count, char **words) {\n"
        "    return count != 4 || add(atoi(words[1]), atoi(words[2])) != atoi(words[3]);\n}\n",
    },
    path="adder.c",
    failing="adds",
    passing="adds_nothing",
    packages="cmake make gcc",
)
RUBY = Sample(
    name="ruby",
    files={
        "Gemfile": 'source "https://rubygems.org"\n\ngem "rspec"\n',
        ".rspec": "--require spec_helper\n",
        "lib/adder.rb": "def add(a, b)\n  a - b\nend\n",
        "spec/spec_helper.rb": 'require_relative "../lib/adder"\n',
        "spec/adder_spec.rb": 'RSpec.describe "Adder" do\n  it "adds" do\n    expect(add(1, 2)).to eq 3\n  end\n\n'
        '  it "adds nothing" do\n    expect(add(0, 0)).to eq 0\n  end\nend\n',
    },
    path="lib/adder.rb",
    failing="spec/adder_spec.rb::Adder adds",
    passing="spec/adder_spec.rb::Adder adds nothing",
    packages="ruby bundler ruby-rspec",
)
PHP = Sample(
    name="php",
    files={
        "composer.json": '{"name": "example/adder", "autoload": {"files": ["src/adder.php"]}}\n',
        "phpunit.xml": '<phpunit bootstrap="vendor/autoload.php">\n  <testsuites>\n    <testsuite name="all">\n'
        "      <directory>tests</directory>\n    </testsuite>\n  </testsuites>\n</phpunit>\n",
        "src/adder.php": "<?php\n\nfunction add(int $a, int $b): int\n{\n    return $a - $b;\n}\n",
        "tests/AdderTest.php": "<?php\n\nuse PHPUnit\\Framework\\TestCase;\n\n"
        "final class AdderTest extends TestCase\n{\n"
        "    public function testAdds(): void\n    {\n        $this->assertSame(3, add(1, 2));\n    }\n\n"
        "    public function testAddsNothing(): void\n    {\n        $this->assertSame(0, add(0, 0));\n    }\n}\n",
    },
    path="src/adder.php",
    failing="tests/AdderTest.php::AdderTest::testAdds",
    passing="tests/AdderTest.php::AdderTest::testAddsNothing",
    packages="php-cli phpunit composer",
    good="$a + $b",
    bad="$a - $b",
)
MAKE = Sample(
    name="make",
    files={
        "Makefile": "test: adding\n\t@echo 1..2\n\t@./adding 1 2 3 && echo ok 1 - adds || echo not ok 1 - adds\n"
        "\t@./adding 0 0 0 && echo ok 2 - adds nothing || echo not ok 2 - adds nothing\n\t@./adding 1 2 3\n\n"
        "adding: tests/adding.c adder.c\n\t$(CC) -o $@ $^\n",
        "adder.c": CMAKE.files["adder.c"],
        "tests/adding.c": CMAKE.files["tests/adding.c"],
    },
    path="adder.c",
    failing="adds",
    passing="adds nothing",
    packages="make gcc",
)
SAMPLES = (RUST, GO, MAVEN, GRADLE, CMAKE, RUBY, PHP, MAKE)
