//! How many groups each entity is in, before Cedar computes it: a chain of a thousand groups takes it ten seconds.

use std::collections::{HashMap, HashSet};

use serde_json::Value as Json;

/// An entity by its type and id.
type Uid<'j> = (&'j str, &'j str);

/// What is wrong with the parents in these lists of entities, and in which list.
pub(super) fn too_many<'j>(lists: impl Iterator<Item = &'j Json>) -> Option<(usize, String)> {
    let mut entities: Vec<(usize, Uid<'j>)> = Vec::new();
    let mut parents: HashMap<Uid<'j>, Vec<Uid<'j>>> = HashMap::new();
    for (list, listed) in lists.enumerate() {
        for entity in listed.as_array().into_iter().flatten() {
            let Some(of) = uid(&entity["uid"]) else { continue };
            entities.push((list, of));
            let above = entity["parents"].as_array().into_iter().flatten().filter_map(uid);
            parents.entry(of).or_default().extend(above);
        }
    }
    entities.into_iter().find_map(|(list, of)| judge(of, &parents).map(|message| (list, message)))
}

/// What is wrong with what this entity is in. Level by level, each group once, so that groups in a circle end too.
fn judge<'j>(of: Uid<'j>, parents: &HashMap<Uid<'j>, Vec<Uid<'j>>>) -> Option<String> {
    let mut known = HashSet::new();
    let mut level = vec![of];
    for _ in 0..=LEVELS_MAX {
        let above: HashSet<Uid<'j>> =
            level.iter().filter_map(|uid| parents.get(uid)).flatten().copied().collect();
        level = above.into_iter().filter(|uid| known.insert(*uid)).collect();
        if known.len() > ANCESTORS_MAX {
            return Some(format!("`{}::\"{}\"` is in more than {ANCESTORS_MAX} groups", of.0, of.1));
        }
        if level.is_empty() {
            return None;
        }
    }
    Some(format!("`{}::\"{}\"` is in groups that are nested deeper than {LEVELS_MAX} levels", of.0, of.1))
}

/// Both forms that Cedar reads. What has neither is its to refuse.
fn uid(json: &Json) -> Option<Uid<'_>> {
    let json = json.get("__entity").unwrap_or(json);
    Some((json["type"].as_str()?, json["id"].as_str()?))
}

/// Groups in groups; organizations that people draw have five.
const LEVELS_MAX: usize = 16;
/// Groups that an entity is in, by itself and by others.
const ANCESTORS_MAX: usize = 256;
