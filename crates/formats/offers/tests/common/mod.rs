//! Reads the data files under `vectors/`.
#![allow(dead_code, clippy::unwrap_used, clippy::panic)]

pub(crate) struct Item<'a>(Vec<(&'a str, &'a str)>);

pub(crate) fn items(file: &str) -> Vec<Item<'_>> {
    file.split("\n\n")
        .map(|item| {
            item.lines()
                .filter(|line| !line.starts_with('#'))
                .map(|line| line.split_once(' ').unwrap_or((line, "")))
                .collect::<Vec<_>>()
        })
        .filter(|item| !item.is_empty())
        .map(Item)
        .collect()
}

impl<'a> Item<'a> {
    pub(crate) fn all(&self, name: &str) -> Vec<&'a str> {
        self.0
            .iter()
            .filter(|(key, _)| *key == name)
            .map(|(_, value)| *value)
            .collect()
    }

    pub(crate) fn get(&self, name: &str) -> Option<&'a str> {
        self.all(name).first().copied()
    }

    pub(crate) fn text(&self, name: &str) -> &'a str {
        self.get(name).unwrap_or_else(|| panic!("no {name}"))
    }
}
