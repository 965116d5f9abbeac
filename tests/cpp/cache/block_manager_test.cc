#include "cache/block_manager.h"

#include <doctest/doctest.h>

#include <vector>

#include "base/check.h"
#include "cache/kv_pool.h"

using lmrun::cache::BlockManager;
using lmrun::cache::ChainKey;

TEST_CASE("blocks are handed out once and come back in the order they were freed") {
  BlockManager blocks(3, 2);
  CHECK(*blocks.allocate() == 0);
  CHECK(*blocks.allocate() == 1);
  CHECK(*blocks.allocate() == 2);
  CHECK_FALSE(blocks.allocate().has_value());
  CHECK(blocks.num_used() == 3);
  blocks.release(2);
  blocks.release(0);
  blocks.check();
  CHECK(*blocks.allocate() == 2);
  CHECK(*blocks.allocate() == 0);
  blocks.check();
}

TEST_CASE("blocks that were ever handed out are counted once") {
  BlockManager blocks(5, 2);
  CHECK(blocks.num_touched() == 0);
  blocks.allocate();
  blocks.allocate();
  blocks.release(0);
  blocks.release(1);
  CHECK(blocks.num_touched() == 2);
  for (int i = 0; i < 4; ++i) blocks.allocate();  // 2, 3, 4, and 0 again
  CHECK(blocks.num_touched() == 5);
}

TEST_CASE("a block is free when its last reference goes") {
  BlockManager blocks(2, 2);
  const auto block = *blocks.allocate();
  blocks.add_reference(block);
  blocks.release(block);
  CHECK(blocks.num_used() == 1);
  blocks.release(block);
  CHECK(blocks.num_used() == 0);
  CHECK_THROWS_WITH_AS(blocks.release(block), "cache: block 0 released once too often",
                       lmrun::base::Error);
}

TEST_CASE("a freed block keeps its content until it is handed out again") {
  BlockManager blocks(2, 2);
  const auto block = *blocks.allocate();
  const std::vector<int32_t> tokens = {7, 8};
  const ChainKey key = blocks.register_full(block, {}, tokens);
  blocks.release(block);
  const auto match = blocks.find({}, tokens);
  REQUIRE(match.has_value());
  CHECK(match->block == block);
  CHECK(match->key.serial == key.serial);
  blocks.add_reference(block);  // taken from the middle of the free list
  blocks.check();
  blocks.release(block);
  CHECK(*blocks.allocate() == 1);
  CHECK(*blocks.allocate() == block);
  CHECK_FALSE(blocks.find({}, tokens).has_value());
  blocks.check();
}

TEST_CASE("a block is found under its own parent and tokens only") {
  BlockManager blocks(4, 2);
  const std::vector<int32_t> first = {1, 2};
  const std::vector<int32_t> second = {3, 4};
  const auto parent = *blocks.allocate();
  const auto child = *blocks.allocate();
  const ChainKey parent_key = blocks.register_full(parent, {}, first);
  blocks.register_full(child, parent_key, second);
  CHECK(blocks.find(parent_key, second)->block == child);
  CHECK_FALSE(blocks.find({}, second).has_value());
  CHECK_FALSE(blocks.find(parent_key, first).has_value());
  // The same hash with another serial: a parent of other content whose hash is equal.
  CHECK_FALSE(blocks.find({parent_key.hash, parent_key.serial + 1}, second).has_value());
}

TEST_CASE("of two equal blocks the first stays the one found") {
  BlockManager blocks(2, 2);
  const std::vector<int32_t> tokens = {1, 2};
  const auto first = *blocks.allocate();
  const auto second = *blocks.allocate();
  const ChainKey a = blocks.register_full(first, {}, tokens);
  const ChainKey b = blocks.register_full(second, {}, tokens);
  CHECK(a.serial == b.serial);
  CHECK(blocks.find({}, tokens)->block == first);
  blocks.check();
}

TEST_CASE("content computed again is found again, though a child of the old block is still held") {
  BlockManager blocks(3, 2);
  const std::vector<int32_t> first = {1, 2};
  const std::vector<int32_t> second = {3, 4};
  const auto parent = *blocks.allocate();
  const auto orphan = *blocks.allocate();
  blocks.register_full(orphan, blocks.register_full(parent, {}, first), second);
  const auto child = *blocks.allocate();
  blocks.release(parent);
  REQUIRE(*blocks.allocate() == parent);  // its content forgotten
  const ChainKey key = blocks.register_full(parent, {}, first);
  CHECK_FALSE(blocks.find(key, second).has_value());
  blocks.register_full(child, key, second);
  REQUIRE(blocks.find(key, second).has_value());
  CHECK(blocks.find(key, second)->block == child);
  blocks.check();
}

TEST_CASE("the pool takes memory only where it is written") {
  lmrun::cache::KvPool pool(int64_t{1} << 16, int64_t{1} << 20);  // 64 GiB of addresses
  CHECK(pool.data()[12345] == std::byte{0});
  pool.data()[pool.bytes() - 1] = std::byte{1};
}

TEST_CASE("a pool that no address space holds is refused") {
  CHECK_THROWS_AS(lmrun::cache::KvPool(int64_t{1} << 31, int64_t{1} << 40), lmrun::base::Error);
}
