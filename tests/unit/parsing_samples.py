"""One small file of each language, as people write them."""

from __future__ import annotations

SAMPLES: dict[str, str] = {
    "store.js": r"""// Greets people.
import React, { useState as state } from "react";
const fs = require("fs");

/** How many. */
export const LIMIT = 3;

/**
 * A person.
 */
class Person extends Base {
  constructor(name) { super(); this.name = name; }
  // Says hello.
  greet(other) {
    if (other && this.name) { return hello(other); }
    return null; // TODO: say more
  }
  handler = () => { this.greet(); };
}

export const shout = (text) => text.toUpperCase();
module.exports.whisper = function (text) { return new Person(text); };
const View = () => <Panel title="x">{shout("a")}</Panel>;
""",
    "store.ts": r"""import { Store, type Item } from "./store";
export interface Reader<T> extends Closer { read(key: string): Promise<T>; }
export enum Color { Red, Blue }
type Pair = [string, number];
@injectable()
export abstract class Service extends Base implements Reader<Item> {
  private items: Map<string, Item> = new Map();
  async read(key: string): Promise<Item> {
    return key ? this.store.get(key) : missing(key);
  }
}
namespace Inner { export function helper(x: number): Pair { return null!; } }
export default function main(): void { new Service(); }
""",
    "card.tsx": r"""import * as React from "react";
interface Props { title: string }
export const Card: React.FC<Props> = ({ title }) => { return <Panel title={title}><Button /></Panel>; };
export function App() { return <Card title="x" />; }
""",
    "store.go": r"""package store

import (
	"fmt"
	log "github.com/sirupsen/logrus"
)

// MaxItems is how many.
const MaxItems = 10

// Store holds items.
type Store struct {
	Base
	items map[string]*Item
}

type Reader interface {
	Read(key string) (Item, error)
}

// Get returns one.
func (s *Store) Get(key string) (*Item, error) {
	if key == "" || s == nil {
		return nil, fmt.Errorf("no key")
	}
	return find(s.items, key), nil
}

func New() *Store { return &Store{} }
""",
    "store.rs": r"""use std::collections::HashMap;
use crate::store::{Item, Kind};

/// A store.
#[derive(Debug)]
pub struct Store { items: HashMap<String, Item> }

pub trait Reader { fn read(&self) -> Item; }

impl Reader for Store {
    /// Reads.
    fn read(&self) -> Item {
        if self.items.is_empty() { panic!("none") }
        make(&self.items)
    }
}

mod inner { pub fn helper() -> u8 { 1 } }
enum Color { Red }
const LIMIT: usize = 3;
macro_rules! twice { ($x:expr) => { $x + $x }; }
""",
    "Store.java": r"""package a.b;

import java.util.List;
import static org.junit.Assert.*;

/** A store. */
@Entity
public class Store extends Base implements Reader<Item> {
    private static final int LIMIT = 3;
    private final List<Item> items;

    public Store(List<Item> items) { this.items = items; }

    /** Reads one. */
    @Override
    public Item read(String key) {
        for (Item item : items) { if (item.matches(key) && key != null) return item; }
        throw new MissingException("none");
    }

    interface Inner { void run(); }
    enum Color { RED }
}
""",
    "store.c": r"""#include <stdio.h>
#include "store.h"
#define LIMIT 3

/* A store. */
typedef struct store { int size; item_t *items; } store_t;

static int counter = 0;

/* Reads one. */
static item_t *store_read(store_t *store, const char *key)
{
    if (!store || !key) return NULL;
    return lookup(store->items, key);
}

int main(void) { return store_read(0, "x") ? 1 : 0; }
""",
    "store.cpp": r"""#include <vector>
namespace app {
/// A store.
class Store : public Base {
public:
    explicit Store(int size);
    int read(const std::string& key) const { return find(key); }
private:
    std::vector<Item> items_;
};

Store::Store(int size) : size_(size) {}

template <typename T>
T* make(T value) { if (value) return new Widget(value); return nullptr; }
}

int app::Store::count() const { return helper::size(items_); }
""",
    "Store.cs": r"""using System.Collections.Generic;
namespace App.Core;

/// <summary>A store.</summary>
[Serializable]
public class Store : Base, IReader<Item>
{
    private readonly List<Item> items = new();
    public int Size { get; set; }
    public Store(int size) { Size = size; }
    public Item Read(string key)
    {
        if (key == null || key.Length == 0) throw new MissingException("none");
        return items.Find(key);
    }
}
public interface IReader<T> { T Read(string key); }
public enum Color { Red }
""",
    "store.rb": r"""require "json"
require_relative "base"

module App
  LIMIT = 3
  # A store.
  class Store < Base
    def initialize(items)
      @items = items
    end

    # Reads one.
    def read(key)
      return nil if key.nil? && @items.empty?
      lookup(key) || Missing.new(key)
    end

    def self.open(path)
      new(JSON.parse(File.read(path)))
    end
  end
end
""",
    "store.php": r"""<?php
namespace App\Core;

use App\Base\Model;
use App\{Reader, Writer as W};

const LIMIT = 3;

/** A store. */
#[Entity]
class Store extends Model implements Reader
{
    use Cached;
    private array $items = [];

    /** Reads one. */
    public function read(string $key): ?Item
    {
        if ($key === '' && !$this->items) { return null; }
        return $this->lookup($key) ?? new Item($key);
    }
}
interface Closer { public function close(); }
function helper(Item $item) { return Store::open(strlen($item)); }
""",
    "Store.kt": r"""package a.b

import kotlin.math.max

/** A store. */
class Store(val size: Int) : Base(size), Reader<Item> {
    /** Reads one. */
    override fun read(key: String): Item {
        if (key.isEmpty() || size == 0) throw Missing("none")
        return items.lookup(key)
    }
    companion object { fun open(): Store = Store(1) }
}
interface Reader<T> { fun read(key: String): T }
object Registry { val all = listOf(1) }
fun helper(x: Int): Int = max(x, 1)
val LIMIT = 3
""",
    "Store.swift": r"""import Foundation

/// A store.
public class Store: Base, Reader {
    var items: [Item] = []
    init(size: Int) { self.size = size }
    /// Reads one.
    func read(key: String) -> Item? {
        guard !key.isEmpty && size > 0 else { return nil }
        return items.lookup(key)
    }
}
struct Point { let x: Int }
enum Color { case red }
protocol Reader { func read(key: String) -> Item? }
extension Store { func close() { helper(1) } }
func helper(_ x: Int) -> Int { return x > 1 ? x : 1 }
let limit = 3
""",
    "Store.scala": r"""package a.b

import scala.collection.mutable
import a.c.{Item, Kind => K}

/** A store. */
class Store(size: Int) extends Base with Reader {
  val items = mutable.Map[String, Item]()
  /** Reads one. */
  def read(key: String): Item = {
    if (key.isEmpty && size > 0) throw new Missing("none")
    lookup(key)
  }
}
trait Reader { def read(key: String): Item }
object Registry { def open(): Store = new Store(1) }
case class Point(x: Int)
""",
    "store.sh": r"""#!/bin/bash
source ./lib.sh
LIMIT=3

# Reads one.
read_one() {
  local key="$1"
  if [ -z "$key" ] && true; then
    return 1
  fi
  lookup "$key"
}

function main {
  read_one x
}
main
""",
    "store.sql": r"""-- Users.
CREATE TABLE users (id INT PRIMARY KEY, name TEXT NOT NULL);

CREATE VIEW active AS SELECT * FROM users WHERE name IS NOT NULL;

CREATE INDEX users_name ON users (name);

CREATE FUNCTION add_one(x INT) RETURNS INT AS $$ SELECT x + 1; $$ LANGUAGE sql;
""",
    "guide.md": r"""# A title

text

## Sub `x`

```py
# no
```

Set
===
more
""",
    "settings.yml": r"""a:
  b: 1
  c:
    - x
"d": 2
---
e: 1
""",
    "settings.toml": r"""x = 1
[a.b]
c = "x"
[[d]]
"e".f=1
""",
    "settings.json": r"""{"a": {"b": [1]}, "c": "x"}""",
    "style.css": r"""a.b, #c { color: red; --x: 1 }
@media print { p {} }
@keyframes foo { from {} }
@import "x.css";""",
    "page.html": r"""<html><body id="m"><h1>Hi <b>x</b></h1><script src="a.js">let x=1</script><!-- c --><link href="a.css"/></body></html>""",
    "store.py": r'''"""A store of items."""

from __future__ import annotations

import json
from app.base import Base, Missing as Gone

LIMIT = 3


@register
class Store(Base):
    """Holds items."""

    size: int = 0

    def read(self, key: str) -> Item:
        """Read one."""
        if not key and self.size:
            raise Gone(key)  # TODO: say which
        return lookup(self.items, key)


def opened(path):
    handler = Store
    return handler(json.loads(path))
''',
}
